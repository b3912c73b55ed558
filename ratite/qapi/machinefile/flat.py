"""`Flat`: a machine without repetitions, parts and expressions, each piece with the place that it comes from."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from ratite.qapi.machinefile.declarations import ID_MAX, SECTIONS, Declarations
from ratite.qapi.machinefile.document import Document
from ratite.qapi.machinefile.problems import Path, Place, Problems, shortened


class Origin(NamedTuple):
    """What a piece was written as."""

    document: Document
    path: Path


class Flat:
    """`data` is as the flat schema has it; `origins` tell where each entry, region and wire was written."""

    def __init__(self) -> None:
        self.data: dict[str, dict[str, Any]] = {name: {} for name in ("machine", *SECTIONS, "maps", "wires")}
        self.origins: dict[Path, Origin] = {}

    def place(self, path: Path, key: bool = False) -> tuple[Place, Path]:
        """(where it was written, as what)."""
        for end in range(len(path), 0, -1):
            origin = self.origins.get(path[:end])
            if origin is not None:
                written = (*origin.path, *path[end:])
                return origin.document.place(written, key), written
        return Place(""), path

    def add(self, path: Path, value: Any, origin: Origin, problems: Problems, user: Origin | None = None) -> None:
        """Put in one entry (section, id), region (maps, space, region) or wire; a second one is a problem of `user`."""
        held = self.data
        for name in path[:-1]:
            held = held.setdefault(name, {})  # type: ignore[arg-type]
        name = path[-1]
        if name in held:
            other, _ = self.place(path, True)
            at = user or origin
            rule = f"'{shortened(str(name))}' is there already, at {other}"
            problems.add(at.document.place(at.path, user is None), at.path, rule)
            return
        held[name] = value  # type: ignore[index]
        self.origins[path] = origin

    def pieces(self) -> Iterator[tuple[Path, Any]]:
        """Everything that `add` takes."""
        for section, held in self.data.items():
            for name, value in held.items():
                if section == "maps":
                    yield from ((("maps", name, region), place) for region, place in value.items())
                else:
                    yield (section, name), value

    def take(self, other: Flat, problems: Problems, user: Origin) -> None:
        """All of another one too, which `user` includes."""
        for path, value in other.pieces():
            self.add(path, value, other.origins[path], problems, user)

    def ids(self) -> set[str]:
        """Every id."""
        return {name for section in SECTIONS for name in self.data[section]}

    def prefixed(self, prefix: str, declarations: Declarations) -> Flat:
        """The same with `prefix` before each id, where it is given and where it is meant; other names mean what they did."""
        ids = self.ids()

        def renamed(text: Any) -> Any:
            return _renamed(text, prefix, ids) if isinstance(text, str) else text

        made = Flat()
        ignored = Problems()
        for path, value in self.pieces():
            section = str(path[0])
            if section in SECTIONS:
                new: Path = (section, f"{prefix}{path[1]}")
                value = _links_renamed(section, value, renamed, declarations)
            elif section == "maps":
                new = (section, *(renamed(name) for name in path[1:]))
            elif section == "wires":
                new, value = (section, renamed(path[1])), renamed(value)
            else:
                new = path
            made.add(new, value, self.origins[path], ignored)
        return made


def _renamed(text: str, prefix: str, ids: set[str]) -> str:
    """An id, an id with more behind "/" or ".", or a path with an id in it."""
    head = next((place for place in ("/machine/peripheral/", "/objects/", "/chardevs/", "/blockdevs/", "/netdevs/")
                 if text.startswith(place)), "")  # fmt: skip
    name = text[len(head) :]
    return f"{head}{prefix}{name}" if name in ids or any(start in ids for start in starts(name)) else text


def starts(text: str) -> Iterator[str]:
    """What stands before a "." or "/" of it and may be an id; the longest last."""
    yield from (text[:at] for at in range(1, min(len(text), ID_MAX + 1)) if text[at] in "./")


def _links_renamed(section: str, entry: Any, renamed: Callable[[Any], Any], declarations: Declarations) -> Any:
    if not isinstance(entry, dict):
        return entry
    linked = links_of(section, entry, declarations)
    return {name: renamed(value) if name in linked else value for name, value in entry.items()}


def links_of(section: str, entry: Mapping[str, Any], declarations: Declarations) -> dict[str, str]:
    """The members of an entry that name another one: {member: its type}; of a block node: {member: ""}."""
    kind = entry.get("type")
    known = SECTIONS[section]
    if not isinstance(kind, str) or kind not in declarations.kinds(known):
        return {}
    if not known.union:
        return {row["name"]: row["link"] for row in declarations.properties(kind) if row.get("link")}
    return {row["name"]: "" for row in declarations.entry_members(known, kind) if _refers(row["type"], declarations)}


def _refers(type_name: str, declarations: Declarations) -> bool:
    """Whether a text there names a thing of the same section: an alternate of a definition and a reference."""
    if type_name not in declarations.schema:
        return False
    definition = declarations.schema.get(type_name)
    return definition["meta"] == "alternate" and any(branch["name"] == "reference" for branch in definition["branches"])
