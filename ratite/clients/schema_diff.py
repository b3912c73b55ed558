"""What of one QMP introspection another one lacks, has beyond it, or has otherwise.

    query-qmp-schema of a ──> Shapes ─┐
                                      ├─ compare ──> Finding, Finding, …
    query-qmp-schema of b ──> Shapes ─┘

Types are compared by structure, from the commands and events down, since their names are masked; a pair of types that several
commands reach is told once, where it is reached first.  What QEMU 10.0 answers is kept in `qemu-10.0.json` beside this module,
in a form of our own (`pack`), so that a comparison needs no QEMU.

    python -m ratite.clients.schema_diff TARGET=FILE…      makes that file from saved answers of query-qmp-schema
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ratite.qapi.resolved import ResolvedSchema
from ratite.qapi.tables import Tables
from ratite.qapi.views import facts_of

Entry = Mapping[str, Any]

FACTS = Path(__file__).with_name("qemu-10.0.json")
SHIPPED = Path(__file__).parents[1] / "schema" / "resolved.json"

KINDS = MISSING, EXTRA, DIFFERENT = "missing", "extra", "different"


class Finding(NamedTuple):
    """`kind` is MISSING (theirs alone has it), EXTRA (ours alone) or DIFFERENT; `name` the command or event, `where` the place
    in it ("" for the whole, "arguments.backend.type", "answer[].props"), `what` the things missing or extra there, or a
    sentence."""

    kind: str
    name: str
    where: str
    what: tuple[str, ...]

    def __str__(self) -> str:
        return " ".join(word for word in (self.name, self.where) if word) + (f": {', '.join(self.what)}" if self.what else "")


def shipped(target: str) -> list[dict[str, Any]]:
    """Our introspection as a program for `target` alone shows it, under QEMU's manners."""
    schema = ResolvedSchema.from_json(json.loads(SHIPPED.read_bytes()))
    return Tables(schema, facts_of("qemu", (target,))).introspect()


def facts() -> dict[str, list[dict[str, Any]]]:
    """What QEMU 10.0's programs answer to query-qmp-schema, by target."""
    return unpack(json.loads(FACTS.read_bytes()))


def compare(ours: Sequence[Entry], theirs: Sequence[Entry]) -> list[Finding]:
    """How ours differs from theirs, by command and event in the order of theirs."""
    comparison = _Comparison(ours, theirs)
    return list(comparison.findings())


class _Comparison:
    def __init__(self, ours: Sequence[Entry], theirs: Sequence[Entry]) -> None:
        self._ours = {entry["name"]: entry for entry in ours}
        self._theirs = {entry["name"]: entry for entry in theirs}
        self._seen: set[tuple[str, str]] = set()
        self._name = ""

    def findings(self) -> Iterator[Finding]:
        for name, theirs in self._theirs.items():
            if theirs["meta-type"] in ("command", "event"):
                self._name = name
                if name in self._ours:
                    yield from self._entry(self._ours[name], theirs)
                else:
                    yield self._found(MISSING, "")
        for name, ours in self._ours.items():
            if ours["meta-type"] in ("command", "event") and name not in self._theirs:
                yield Finding(EXTRA, name, "", ())

    def _found(self, kind: str, where: str, *what: str) -> Finding:
        return Finding(kind, self._name, where, what)

    def _entry(self, ours: Entry, theirs: Entry) -> Iterator[Finding]:
        yield from self._features(ours, theirs, "")
        for key in ("meta-type", "allow-oob"):
            if ours.get(key) != theirs.get(key):
                yield self._found(DIFFERENT, "", f"{key} is {ours.get(key)}, not {theirs.get(key)}")
        for key, word in (("arg-type", "arguments"), ("ret-type", "answer")):
            if key in ours and key in theirs:
                yield from self._types(ours[key], theirs[key], word)

    def _features(self, ours: Entry, theirs: Entry, where: str) -> Iterator[Finding]:
        have, want = set(ours.get("features", ())), set(theirs.get("features", ()))
        if want - have:
            yield self._found(MISSING, where, *(f"feature {name}" for name in sorted(want - have)))
        if have - want:
            yield self._found(EXTRA, where, *(f"feature {name}" for name in sorted(have - want)))

    def _types(self, our_name: str, their_name: str, where: str) -> Iterator[Finding]:
        if (our_name, their_name) in self._seen:
            return
        self._seen.add((our_name, their_name))
        ours, theirs = self._ours[our_name], self._theirs[their_name]
        meta = theirs["meta-type"]
        if ours["meta-type"] != meta:
            yield self._found(DIFFERENT, where, f"is {_kind(ours)}, not {_kind(theirs)}")
            return
        yield from self._features(ours, theirs, where)
        if meta == "builtin" and our_name != their_name:
            yield self._found(DIFFERENT, where, f"is {our_name}, not {their_name}")
        elif meta == "array":
            yield from self._types(ours["element-type"], theirs["element-type"], where + "[]")
        elif meta == "enum":
            yield from self._values(ours, theirs, where)
        elif meta == "alternate":
            yield from self._alternatives(ours, theirs, where)
        elif meta == "object":
            yield from self._members(ours, theirs, where)
            yield from self._variants(ours, theirs, where)

    def _values(self, ours: Entry, theirs: Entry, where: str) -> Iterator[Finding]:
        have, want = _by_name(ours), _by_name(theirs)
        yield from self._names(have, want, where)
        for name in have.keys() & want.keys():
            yield from self._features(have[name], want[name], f"{where}={name}")

    def _names(self, have: Mapping[str, object], want: Mapping[str, object], where: str) -> Iterator[Finding]:
        missing, extra = [name for name in want if name not in have], [name for name in have if name not in want]
        if missing:
            yield self._found(MISSING, where, *missing)
        if extra:
            yield self._found(EXTRA, where, *extra)

    def _alternatives(self, ours: Entry, theirs: Entry, where: str) -> Iterator[Finding]:
        have = {_kind(self._ours[row["type"]]): row["type"] for row in ours["members"]}
        want = {_kind(self._theirs[row["type"]]): row["type"] for row in theirs["members"]}
        yield from self._names(have, want, where)
        for kind in have.keys() & want.keys():
            yield from self._types(have[kind], want[kind], where)

    def _members(self, ours: Entry, theirs: Entry, where: str) -> Iterator[Finding]:
        have, want = _by_name(ours), _by_name(theirs)
        yield from self._names(have, want, where)
        for name, row in want.items():
            if name not in have:
                continue
            place = f"{where}.{name}"
            if ("default" in have[name]) != ("default" in row):
                yield self._found(DIFFERENT, place, "is optional" if "default" in have[name] else "is not optional")
            yield from self._features(have[name], row, place)
            yield from self._types(have[name]["type"], row["type"], place)

    def _variants(self, ours: Entry, theirs: Entry, where: str) -> Iterator[Finding]:
        if ours.get("tag") != theirs.get("tag"):
            yield self._found(DIFFERENT, where, f"its tag is {ours.get('tag')}, not {theirs.get('tag')}")
            return
        # A case that one lacks is told of the tag's values.
        want = {row["case"]: row["type"] for row in theirs.get("variants", ())}
        for row in ours.get("variants", ()):
            if row["case"] in want:
                yield from self._types(row["type"], want[row["case"]], f"{where}.{ours['tag']}={row['case']}")


def _kind(entry: Entry) -> str:
    return str(entry.get("json-type") or entry["meta-type"])


def _by_name(entry: Entry) -> dict[str, Entry]:
    return {row["name"]: row for row in entry["members"]}


def pack(answers: Mapping[str, Sequence[Entry]]) -> bytes:
    """Several targets' answers as one file: each entity once, a list in a line, and which commands and events a target lacks.

    Programs made from one schema number its types alike; ValueError for answers that don't.
    """
    union: dict[str, list[Any]] = {}
    for entries in answers.values():
        for entry in entries:
            line = [entry["meta-type"], *_pack_entry(entry)]
            if union.setdefault(entry["name"], line) != line:
                raise ValueError(f"the answers were not made from one schema: {entry['name']} differs")
    named = [name for name, line in union.items() if line[0] in ("command", "event")]
    targets = {}
    for target, entries in answers.items():
        present = {entry["name"] for entry in entries}
        targets[target] = [name for name in named if name not in present]
    lines = ",\n".join(json.dumps([name, *line], separators=(",", ":")) for name, line in union.items())
    return f'{{"lacking":{json.dumps(targets)},"entries":[\n{lines}\n]}}\n'.encode()


def _pack_entry(entry: Entry) -> list[Any]:
    meta, features = entry["meta-type"], " ".join(entry.get("features", ()))
    if meta == "command":
        return [features, entry["arg-type"], entry["ret-type"], int(entry.get("allow-oob", False))]
    if meta == "event":
        return [features, entry["arg-type"]]
    if meta == "builtin":
        return [entry["json-type"]]
    if meta == "array":
        return [entry["element-type"]]
    rows = [
        [row.get("name", ""), row.get("type", ""), int("default" in row), *row.get("features", ())] for row in entry["members"]
    ]
    variants = {row["case"]: row["type"] for row in entry.get("variants", ())}
    return [features, rows, entry.get("tag", ""), variants]


def unpack(packed: Mapping[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """The answers that `pack` was given, by target; what only an enum's deprecated `values` says is left out."""
    entries = [_unpack_entry(*line) for line in packed["entries"]]
    return {
        target: [entry for entry in entries if entry["name"] not in lacking] for target, lacking in packed["lacking"].items()
    }


def _unpack_entry(name: str, meta: str, *rest: Any) -> dict[str, Any]:
    entry: dict[str, Any] = {"name": name, "meta-type": meta}
    if meta == "builtin":
        return {**entry, "json-type": rest[0]}
    if meta == "array":
        return {**entry, "element-type": rest[0]}
    if rest[0]:
        entry["features"] = rest[0].split()
    if meta == "command":
        entry.update({"arg-type": rest[1], "ret-type": rest[2]}, **({"allow-oob": True} if rest[3] else {}))
    elif meta == "event":
        entry["arg-type"] = rest[1]
    else:
        entry["members"] = [_unpack_member(*row) for row in rest[1]]
        if rest[2]:
            entry.update(tag=rest[2], variants=[{"case": case, "type": type} for case, type in rest[3].items()])
    return entry


def _unpack_member(name: str, type: str, optional: int, *features: str) -> dict[str, Any]:
    row: dict[str, Any] = {"name": name} if name else {}
    if type:
        row["type"] = type
    if optional:
        row["default"] = None
    if features:
        row["features"] = list(features)
    return row


def main(argv: Sequence[str] | None = None) -> int:
    """Make the file of facts; the exit status."""
    answers = {}
    for word in sys.argv[1:] if argv is None else argv:
        target, _, path = word.partition("=")
        read = json.loads(Path(path).read_bytes())
        answers[target] = read["return"] if isinstance(read, dict) else read
    if not answers:
        print("usage: python -m ratite.clients.schema_diff TARGET=FILE...", file=sys.stderr)
        return 2
    FACTS.write_bytes(pack(answers))
    return 0


if __name__ == "__main__":
    sys.exit(main())
