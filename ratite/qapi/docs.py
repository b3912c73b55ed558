"""Documentation comments: '##' to '##', each line '#' or '# text'.

A comment whose first line is '@NAME:' documents the definition that directly follows; any other is
free-form and only checked.  Within a definition's comment '@member:' begins a member's section,
'Features:' the features (again '@name:'), and Returns, Errors, Since and TODO are tagged sections.

`style` adds the rules about how text is laid out (lines of at most 70 characters, two spaces between
sentences, no old-fashioned Note and Example sections), which older schemas don't keep.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from ratite.qapi.lexer import Lexer, Token
from ratite.qapi.source import Place

MAX_WIDTH = 70
TAGS = ("Returns", "Errors", "Since", "TODO")
_NAMED = re.compile(r"@([^:\s]*)(:?)(?:\s+|$)(.*)")
_TAGGED = re.compile(r"(Returns|Errors|Since|TODO|Features|Note|Notes|Example|Examples):(?:\s+|$)(.*)", re.I)
_ONE_SPACE = re.compile(r"[a-z0-9)'`*]{2}[.!?] [A-Z]")
_ABBREVIATION = re.compile(r"\b(?:etc|vs|cf|resp|approx|e\.g|i\.e)\. ")


@dataclass(slots=True)
class Section:
    """A part of a comment.  Kinds: Plain, Member, Feature, Returns, Errors, Since, Todo."""

    kind: str
    name: str
    place: Place
    lines: list[str] = field(default_factory=list)

    @property
    def text(self) -> str:
        return "\n".join(self.lines).strip("\n")


@dataclass(slots=True)
class Doc:
    """A documentation comment; `symbol` is "" for a free-form one."""

    place: Place
    symbol: str = ""
    sections: list[Section] = field(default_factory=list)

    def named(self, kind: str) -> dict[str, Section]:
        """The sections of a kind by name."""
        return {section.name: section for section in self.sections if section.kind == kind}

    def to_json(self) -> dict[str, Any]:
        """The DOC of the resolved form."""
        result: dict[str, Any] = {}
        plain = [section.text for section in self.sections if section.kind == "Plain" and section.text]
        if plain:
            result["text"] = "\n\n".join(plain)
        for key, kind in (("members", "Member"), ("features", "Feature")):
            named = {name: section.text for name, section in self.named(kind).items()}
            if named:
                result[key] = named
        for kind in ("Returns", "Errors", "Since"):
            for section in self.named(kind).values():
                result[kind.lower()] = section.text
        return result


class DocParser:
    """Reads one comment, from the lexer's position behind its first '##'."""

    def __init__(self, lexer: Lexer, opening: Token, place: Place, style: bool) -> None:
        self._lexer = lexer
        self._place = place.at(opening.line)
        self._style = style
        self._doc = Doc(self._place)
        self._in_features = False
        self._literal: int | None = None
        self._first = True
        if opening.value != "##":
            raise self._place.error("junk after '##' at start of documentation comment", opening.col)

    def parse(self) -> Doc:
        """The comment.  Raises SchemaError."""
        while True:
            token = self._lexer.next_line()
            if token is None:
                raise self._place.error("documentation comment must end with '##'")
            raw = str(token.value).rstrip()
            place = self._place.at(token.line)
            if raw.startswith("##"):
                if raw != "##":
                    raise place.error("junk after '##' at end of documentation comment", token.col)
                return self._finished()
            if not raw.startswith("#"):
                raise place.error("documentation comment must end with '##'", token.col)
            if raw != "#" and raw[1] != " ":
                raise place.error("missing space after '#' in documentation comment", token.col)
            self._line(raw[2:], place)

    def _finished(self) -> Doc:
        for section in self._doc.sections:
            if section.kind != "Plain" and not section.text:
                label = f"'@{section.name}:'" if section.kind in ("Member", "Feature") else f"'{section.name}:'"
                raise section.place.error(f"text required after {label}")
        if self._doc.symbol and self._in_features and not self._doc.named("Feature"):
            raise self._place.error("'Features:' must be followed by at least one '@name:' section")
        return self._doc

    def _line(self, text: str, place: Place) -> None:
        literal = self._is_literal(text)
        if self._style and not literal:
            self._check_style(text, place)
        if self._first:
            self._first = False
            if text.startswith("@"):
                self._heading(text, place)
                return
        if literal or not text.strip():
            self._append(text, place)
            return
        if not self._doc.symbol:
            if text.startswith("@") and _NAMED.fullmatch(text) and ":" in text:
                raise place.error(f"'{text.split()[0]}' not allowed in free-form documentation")
            self._append(text, place)
        elif text.startswith("@") and (match := _NAMED.fullmatch(text)) and match[2]:
            self._begin_named(match[1], match[3], place)
        elif (tag := _TAGGED.fullmatch(text)) and self._is_tag(tag[1]):
            self._begin_tag(tag[1], tag[2], place)
        elif text.startswith("="):
            raise place.error("unexpected '=' markup in definition documentation")
        else:
            self._append(text, place)

    def _is_literal(self, text: str) -> bool:
        indent = len(text) - len(text.lstrip())
        if self._literal is not None:
            if not text.strip() or indent > self._literal:
                return True
            self._literal = None
        if text.rstrip().endswith("::") or text.lstrip().startswith(".. "):
            self._literal = indent
        return False

    def _check_style(self, text: str, place: Place) -> None:
        if len(text) > MAX_WIDTH and " " in text.strip() and "://" not in text:
            raise place.error(f"documentation line must have at most {MAX_WIDTH} characters, not {len(text)}")
        match = _ONE_SPACE.search(_ABBREVIATION.sub("", text))
        if match:
            raise place.error(f"two spaces required between sentences, at '{match[0]}'")

    def _heading(self, text: str, place: Place) -> None:
        if not text.endswith(":"):
            raise place.error("line should end with ':'")
        name = text[1:-1]
        if not name:
            raise place.error("name required after '@'")
        self._doc.symbol = name
        self._doc.sections.append(Section("Plain", "", place))

    def _is_tag(self, tag: str) -> bool:
        if tag in TAGS or tag == "Features":
            return True
        return self._style and tag in ("Note", "Notes", "Example", "Examples")

    def _begin_named(self, name: str, text: str, place: Place) -> None:
        if not name:
            raise place.error("name required after '@'")
        kind = "Feature" if self._in_features else "Member"
        if not self._in_features and any(s.kind not in ("Plain", "Member") for s in self._doc.sections):
            raise place.error(f"'@{name}:' must come before the tagged sections")
        if name in self._doc.named(kind):
            raise place.error(f"{kind.lower()} '{name}' is documented twice")
        self._begin(kind, name, text, place)

    def _begin_tag(self, tag: str, text: str, place: Place) -> None:
        if tag.startswith(("Note", "Example")):
            advice = ".. note::" if tag.startswith("Note") else ".. qmp-example::"
            raise place.error(f"'{tag}:' is not a section, use '{advice}'")
        if tag == "Features":
            if text:
                raise place.error("unexpected text after 'Features:'")
            if self._in_features:
                raise place.error("section 'Features:' is there twice")
            self._in_features = True
            self._doc.sections.append(Section("Plain", "", place))
            return
        kind = tag.capitalize()
        if kind != "Todo" and any(section.kind == kind for section in self._doc.sections):
            raise place.error(f"section '{tag}:' is there twice")
        self._begin(kind, tag, text, place)

    def _begin(self, kind: str, name: str, text: str, place: Place) -> None:
        self._doc.sections.append(Section(kind, name, place, [text] if text else []))

    def _append(self, text: str, place: Place) -> None:
        sections = self._doc.sections
        if not sections:
            sections.append(Section("Plain", "", place))
        section = sections[-1]
        if section.kind == "Plain":
            section.lines.append(text)
            return
        if text and not text.startswith(" "):
            if section.lines and section.lines[-1]:
                raise place.error(f"text of section '{section.name}' must be indented")
            sections.append(Section("Plain", "", place, [text]))
            return
        section.lines.append(text.removeprefix("    ") if text.startswith("    ") else text.lstrip())
