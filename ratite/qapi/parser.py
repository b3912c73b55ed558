"""Schema files to a list of expressions: syntax, includes, pragmas, and which comment documents what.

An include that was read before is a no-op; files are kept in the order in which they are first
included, the main file first, because that is the order of query-qmp-schema.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ratite.qapi.docs import Doc, DocParser
from ratite.qapi.errors import SchemaError
from ratite.qapi.lexer import Lexer, Token
from ratite.qapi.source import Place, Pragma, show

MAX_NESTING = 100
METAS = ("enum", "struct", "union", "alternate", "command", "event")


@dataclass(slots=True)
class Expression:
    """A definition as it was written: `meta` and `name` are known, nothing else is checked."""

    meta: str
    name: str
    value: dict[str, Any]
    place: Place
    doc: Doc | None
    file_index: int = 0


@dataclass(slots=True)
class Parsed:
    """All files of a schema: definitions in source order, and what the pragmas left set."""

    expressions: list[Expression] = field(default_factory=list)
    pragma: Pragma = field(default_factory=Pragma)
    files: list[str] = field(default_factory=list)
    doc_style: bool = True


def parse_file(path: str, doc_style: bool = True) -> Parsed:
    """The schema whose main file is `path`.  Raises SchemaError, also for files that can't be read."""
    parsed = Parsed(doc_style=doc_style)
    _FileParser(path, Place(path), parsed, ()).parse()
    return parsed


def read_text(path: str, place: Place) -> str:
    """A schema file's text.  Raises SchemaError at `place`, which names the include or the file."""
    try:
        return Path(path).read_text(encoding="utf-8")
    except OSError as error:
        raise place.error(f"can't read schema file '{path}': {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise Place(path).error(f"a schema file must be UTF-8, byte {error.start} isn't") from None


class _FileParser:
    def __init__(self, path: str, asked_at: Place, parsed: Parsed, open_files: tuple[Path, ...]) -> None:
        chain = asked_at.included_from + (((asked_at.file, asked_at.line),) if asked_at.line else ())
        self._place = Place(path, included_from=chain)
        self._path = Path(path)
        self._parsed = parsed
        self._open = (*open_files, self._path.resolve())
        self._file_index = len(parsed.files)
        text = read_text(path, asked_at)
        parsed.files.append(str(self._path.resolve()))
        self._lexer = Lexer(text, self._place)
        self._token = Token("end", "", 1, 1)
        self._depth = 0

    def parse(self) -> None:
        doc: Doc | None = None
        self._token = self._lexer.next(comments=True)
        while self._token.kind != "end":
            if self._token.kind == "comment":
                doc = self._comment(doc)
                continue
            place = self._place.at(self._token.line)
            if self._token.kind != "{":
                raise self._unexpected("'{'")
            value = self._object()
            self._top_level(value, place, doc)
            doc = None
        self._reject(doc)

    # -- tokens

    def _accept(self) -> None:
        self._token = self._lexer.next()

    def _unexpected(self, expected: str) -> SchemaError:
        got = "end of file" if self._token.kind == "end" else f"'{self._token.value}'"
        if self._token.kind == "bool":
            got = show(self._token.value)
        return self._place.at(self._token.line).error(f"expected {expected}, not {got}", self._token.col)

    def _object(self) -> dict[str, Any]:
        """An object, from its '{'; at the top level the comment after it is not skipped."""
        return self._members(top=True)

    def _members(self, top: bool = False) -> dict[str, Any]:
        result: dict[str, Any] = {}
        self._accept()
        if self._token.kind == "}":
            self._close(top)
            return result
        if self._token.kind != "string":
            raise self._unexpected("string or '}'")
        while True:
            key, line, col = str(self._token.value), self._token.line, self._token.col
            self._accept()
            if self._token.kind != ":":
                raise self._unexpected("':'")
            if key in result:
                raise self._place.at(line).error(f"duplicate key '{key}'", col)
            self._accept()
            result[key] = self._value()
            if self._token.kind == "}":
                self._close(top)
                return result
            if self._token.kind != ",":
                raise self._unexpected("',' or '}'")
            self._accept()
            if self._token.kind != "string":
                raise self._unexpected("string")

    def _close(self, top: bool) -> None:
        if top:
            self._token = self._lexer.next(comments=True)
        else:
            self._accept()

    def _array(self) -> list[Any]:
        result: list[Any] = []
        self._accept()
        if self._token.kind == "]":
            self._accept()
            return result
        if self._token.kind not in ("{", "[", "string", "bool"):
            raise self._unexpected("'{', '[', ']', string, or boolean")
        while True:
            result.append(self._value())
            if self._token.kind == "]":
                self._accept()
                return result
            if self._token.kind != ",":
                raise self._unexpected("',' or ']'")
            self._accept()

    def _value(self) -> Any:
        token = self._token
        if token.kind in ("{", "["):
            self._depth += 1
            if self._depth > MAX_NESTING:
                raise self._place.at(token.line).error(f"nested more than {MAX_NESTING} deep", token.col)
            value = self._members() if token.kind == "{" else self._array()
            self._depth -= 1
            return value
        if token.kind in ("string", "bool"):
            self._accept()
            return token.value
        raise self._unexpected("'{', '[', string, or boolean")

    # -- top level

    def _comment(self, pending: Doc | None) -> Doc | None:
        if not str(self._token.value).startswith("##"):
            self._token = self._lexer.next(comments=True)
            return pending
        self._reject(pending)
        doc = DocParser(self._lexer, self._token, self._place, self._parsed.doc_style).parse()
        self._token = self._lexer.next(comments=True)
        return doc if doc.symbol else None

    def _reject(self, doc: Doc | None) -> None:
        if doc is not None:
            raise doc.place.error(f"documentation for '{doc.symbol}' is not followed by the definition")

    def _top_level(self, value: dict[str, Any], place: Place, doc: Doc | None) -> None:
        if "include" in value or "pragma" in value:
            self._reject(doc)
            keyword = "include" if "include" in value else "pragma"
            if len(value) != 1:
                extra = next(key for key in value if key != keyword)
                raise place.error(f"'{keyword}' must be alone in its expression, not with '{extra}'")
            if keyword == "include":
                self._include(value["include"], place)
            else:
                self._pragma(value["pragma"], place)
            return
        metas = [meta for meta in METAS if meta in value]
        if not metas:
            raise place.error("expression must have one of the keys " + ", ".join(f"'{meta}'" for meta in METAS))
        if len(metas) > 1:
            raise place.error(f"expression must be only one definition, not '{metas[0]}' and '{metas[1]}'")
        meta = metas[0]
        name = value[meta]
        if not isinstance(name, str):
            raise place.error(f"'{meta}' must have a string as its name, not {show(name)}")
        self._parsed.expressions.append(Expression(meta, name, value, place.within(meta, name), doc, self._file_index))

    def _include(self, name: object, place: Place) -> None:
        if not isinstance(name, str):
            raise place.error(f"value of 'include' must be a string, not {show(name)}")
        path = self._path.parent / name
        resolved = path.resolve()
        if resolved in self._open:
            raise place.error(f"inclusion loop for {name}")
        if str(resolved) not in self._parsed.files:
            _FileParser(str(path), place, self._parsed, self._open).parse()

    def _pragma(self, pragmas: object, place: Place) -> None:
        if not isinstance(pragmas, dict):
            raise place.error(f"value of 'pragma' must be an object, not {show(pragmas)}")
        for name, value in pragmas.items():
            self._parsed.pragma.set(name, value, place)
