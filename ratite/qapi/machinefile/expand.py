"""A machine file with everything that it includes, its repetitions and its expressions resolved: into a `Flat`.

    document ── parameters bound ──> fragment ──┬── things with their expressions computed
                                                ├── groups: for each turn, if the condition holds, a fragment
                                                └── includes: another document or part, its ids prefixed

What is malformed is passed over here: the schema has told of it.  The work is bounded whatever the file says.
"""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple, cast

from ratite.qapi.errors import QmpError
from ratite.qapi.machinefile.declarations import SECTIONS, Declarations
from ratite.qapi.machinefile.document import Document, read_document
from ratite.qapi.machinefile.expression import UNKNOWN, ExpressionError, as_text, evaluate
from ratite.qapi.machinefile.flat import Flat, Origin
from ratite.qapi.machinefile.parameters import Given, bound
from ratite.qapi.machinefile.problems import Near, Path, Place, Problems, listed

# (kind, name, canonical name of the including document) -> (canonical name, text).  OSError, QmpError.
Read = Callable[[str, str, str], tuple[str, str]]
Validate = Callable[[Document, Problems], None]

WORK_MAX = 20_000
VALUES_MAX = 200_000
LETTERS_MAX = 8 << 20
DOCUMENTS_MAX = 64
DOCUMENTS_LETTERS_MAX = 4 << 20
NESTING_MAX = 16


class _TooMuch(Exception):
    """The text says of what."""


class _Scope(NamedTuple):
    """Where a fragment stands: its document, the names that expressions may use, and what it is included by."""

    document: Document
    names: Mapping[str, Any]
    stack: tuple[str, ...]


class Expander:
    """One run; `validate` is called for each document that is read."""

    def __init__(self, declarations: Declarations, read: Read | None, validate: Validate, problems: Problems) -> None:
        self._declarations = declarations
        self._read = read
        self._validate = validate
        self._problems = problems
        self._documents: dict[tuple[str, str, str], Document | None] = {}
        self._work = self._values = self._letters = self._read_letters = 0
        # Whether something is missing because of a parameter that was given wrongly.
        self.incomplete = False

    def expand(self, document: Document, arguments: Mapping[str, Any]) -> Flat:
        """The whole machine; what is wrong goes to the problems."""
        self._validate(document, self._problems)
        try:
            return self._use(document, (), document.data, Given(arguments, None, ("parameters",)), (document.name,))
        except _TooMuch as error:
            self._problems.add(document.place(()), (), f"repetitions and includes make more than {error}")
            return Flat()

    # -- documents and parts

    def _use(self, document: Document, path: Path, data: Any, given: Given, stack: tuple[str, ...]) -> Flat:
        flat = Flat()
        if isinstance(data, dict):
            names = bound(document, path, data, given, self._problems)
            scope = _Scope(document, names, stack)
            for name, value in _items(data.get("machine")):
                where = (*path, "machine", name)
                flat.add(("machine", name), self._value(scope, value, where), Origin(document, where), self._problems)
            self._fragment(flat, scope, data, path)
        return flat

    def _include(self, flat: Flat, scope: _Scope, data: Any, path: Path) -> None:
        if not isinstance(data, dict):
            return
        kind = next((kind for kind in ("file", "profile", "part") if isinstance(data.get(kind), str)), "")
        if not kind:
            return
        found = self._part(scope, data["part"], path) if kind == "part" else self._document(scope, kind, data[kind], path)
        if found is None:
            return
        document, inner, name = found
        if name in scope.stack:
            chain = " -> ".join((*scope.stack[scope.stack.index(name) :], name))
            self._problems.add(scope.document.place((*path, kind)), (*path, kind), f"it includes itself: {chain}")
            return
        if len(scope.stack) >= NESTING_MAX:
            self._problems.add(scope.document.place(path), path, f"includes can be nested {NESTING_MAX} deep")
            return
        values = {key: self._argument(scope, value, (*path, "with", key)) for key, value in _items(data.get("with"))}
        given = Given(values, scope.document, (*path, "with"))
        at = document.data
        for step in inner:
            at = at[step]
        made = self._use(document, inner, at, given, (*scope.stack, name))
        prefix = self._value(scope, data.get("prefix", ""), (*path, "prefix"))
        if isinstance(prefix, str) and prefix:
            self._count(len(made.origins))
            self._count_letters(len(made.origins) * len(prefix))
            made = made.prefixed(prefix, self._declarations)
        flat.take(made, self._problems, Origin(scope.document, path))

    def _argument(self, scope: _Scope, value: Any, path: Path) -> Any:
        """A parameter's value; UNKNOWN where something is wrong with it."""
        made = self._value(scope, value, path)
        return UNKNOWN if self._problems.at(scope.document.place(path)) else made

    def _part(self, scope: _Scope, name: str, path: Path) -> tuple[Document, Path, str] | None:
        parts = scope.document.data.get("parts")
        if not isinstance(parts, dict) or name not in parts:
            have = f"(there are: {listed(parts if isinstance(parts, dict) else ())})"
            near = Near(name, parts if isinstance(parts, dict) else ())
            self._problems.add(scope.document.place((*path, "part")), (*path, "part"), f"must name a part {have}", name, near)
            return None
        return scope.document, ("parts", name), f"{scope.document.name}#{name}"

    def _document(self, scope: _Scope, kind: str, name: str, path: Path) -> tuple[Document, Path, str] | None:
        key = kind, name, scope.document.name
        if key not in self._documents:
            self._documents[key] = self._load(scope, kind, name, (*path, kind))
        document = self._documents[key]
        return None if document is None or not isinstance(document.data, dict) else (document, (), document.name)

    def _load(self, scope: _Scope, kind: str, name: str, path: Path) -> Document | None:
        place = scope.document.place(path)
        if self._read is None:
            self._problems.add(place, path, "other files can't be included here", name)
            return None
        if len(self._documents) >= DOCUMENTS_MAX:
            self._problems.add(place, path, f"at most {DOCUMENTS_MAX} files can be included")
            return None
        try:
            canonical, text = self._read(kind, name, scope.document.name)
        except (OSError, QmpError, UnicodeDecodeError) as error:
            why = error.strerror if isinstance(error, OSError) else str(error)
            self._problems.add(place, path, f"can't be read: {why}", ...)
            return None
        known = next((each for each in self._documents.values() if each is not None and each.name == canonical), None)
        if known is not None:
            return known
        self._read_letters += len(text)
        if self._read_letters > DOCUMENTS_LETTERS_MAX:
            raise _TooMuch(f"{DOCUMENTS_LETTERS_MAX} letters of included files")
        document = read_document(canonical, text, self._problems)
        if document is not None:
            self._validate(document, self._problems)
        return document

    # -- fragments

    def _fragment(self, flat: Flat, scope: _Scope, data: Mapping[str, Any], path: Path) -> None:
        self._count(1)
        for number, include in enumerate(_list(data.get("include"))):
            self._count(1)
            self._include(flat, scope, include, (*path, "include", number))
        for section in (*SECTIONS, "wires"):
            for key, value in _items(data.get(section)):
                self._add(flat, scope, (section,), (*path, section), key, value)
        for space, regions in _items(data.get("maps")):
            name = self._text(scope, space, (*path, "maps", space))
            for key, value in _items(regions):
                self._add(flat, scope, ("maps", name), (*path, "maps", space), key, value)
        for number, group in enumerate(_list(data.get("groups"))):
            self._group(flat, scope, group, (*path, "groups", number))

    def _add(self, flat: Flat, scope: _Scope, into: Path, path: Path, key: str, value: Any) -> None:
        self._count(1)
        where = (*path, key)
        name = self._text(scope, key, where)
        flat.add((*into, name), self._value(scope, value, where), Origin(scope.document, where), self._problems)

    def _group(self, flat: Flat, scope: _Scope, group: Any, path: Path) -> None:
        if not isinstance(group, dict):
            return
        for names in self._turns(scope, list(_items(group.get("for"))), (*path, "for")):
            inner = scope._replace(names=names)
            condition = self._value(inner, group.get("if", True), (*path, "if"))
            if condition is True:
                self._fragment(flat, inner, group, path)
            elif condition is not False:
                self._fault(inner, (*path, "if"), "must be true or false", condition)

    def _turns(self, scope: _Scope, variables: list[tuple[str, Any]], path: Path) -> Iterator[Mapping[str, Any]]:
        """The names of each turn: the first variable changes slowest."""
        if not variables:
            yield scope.names
            return
        (name, values), *others = variables
        where = (*path, name)
        if name in scope.names:
            self._problems.add(scope.document.place(where, True), where, "the name is taken by a parameter or variable", ...)
            return
        values = self._value(scope, values, where)
        if isinstance(values, int) and not isinstance(values, bool):
            if not 0 <= values <= 4096:
                self._fault(scope, where, "must be a count from 0 to 4096, or a list", values)
                return
            values = range(values)
        elif not isinstance(values, list):
            self._fault(scope, where, "must be a count from 0 to 4096, or a list", values)
            return
        for value in values:
            self._count(1)
            # Not a copy: a file may have thousands of names.
            names = ChainMap({name: value}, cast("dict[str, Any]", scope.names))
            yield from self._turns(scope._replace(names=names), others, path)

    # -- values

    def _value(self, scope: _Scope, value: Any, path: Path) -> Any:
        """The value with every expression in it computed; one that can't be stays as it is written."""
        self._values += 1
        if self._values > VALUES_MAX:
            raise _TooMuch(f"{VALUES_MAX} values")
        if isinstance(value, dict):
            return {key: self._value(scope, each, (*path, key)) for key, each in value.items()}
        if isinstance(value, list):
            return [self._value(scope, each, (*path, number)) for number, each in enumerate(value)]
        if not isinstance(value, str) or "$(" not in value:
            return value
        return self._evaluated(scope, value, path, False)

    def _text(self, scope: _Scope, key: str, path: Path) -> str:
        return str(self._evaluated(scope, key, path, True)) if "$(" in key else key

    def _evaluated(self, scope: _Scope, text: str, path: Path, key: bool) -> Any:
        self._count_letters(len(text))
        try:
            made = evaluate(text, scope.names)
            made = as_text(made) if key else made
        except ExpressionError as error:
            self._untold(scope.document.place(path, key), path, error)
            return text
        if isinstance(made, str):
            self._count_letters(len(made))
        return made

    def _untold(self, place: Place, path: Path, error: ExpressionError) -> None:
        if str(error):
            if not self._problems.at(place):
                self._problems.add(place, path, str(error), near=error.near)
        else:
            self.incomplete = True
            self._problems.silence(place)

    def _fault(self, scope: _Scope, path: Path, rule: str, value: Any) -> None:
        """Unless something is wrong there already."""
        place = scope.document.place(path)
        if not self._problems.at(place):
            self._problems.add(place, path, rule, value)

    def _count(self, things: int) -> None:
        self._work += things
        if self._work > WORK_MAX:
            raise _TooMuch(f"{WORK_MAX} things")

    def _count_letters(self, letters: int) -> None:
        self._letters += letters
        if self._letters > LETTERS_MAX:
            raise _TooMuch(f"{LETTERS_MAX} letters of texts")


def _items(value: Any) -> Iterator[tuple[str, Any]]:
    yield from value.items() if isinstance(value, dict) else ()


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
