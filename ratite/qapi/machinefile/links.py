"""Checks what names what: links, lines and regions of a resolved machine, before any daemon sees it.

What a type makes at run time (the buses of a controller) isn't declared: of a link to "ID/PART" only the ID is checked.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from itertools import chain
from types import MappingProxyType
from typing import Any

from ratite.qapi.machinefile.declarations import SECTIONS, Declarations
from ratite.qapi.machinefile.flat import Flat, links_of, starts
from ratite.qapi.machinefile.problems import Near, Path, Problems, shortened

_LINE = re.compile(r"(.+?)(?:\[([0-9]{1,6})\])?")
# Where backends of a type that a link names are found in a file.
_BACKENDS: Mapping[str, str] = MappingProxyType({"chardev": "chardevs", "block-node": "blockdevs", "netdev": "netdevs"})


class Links:
    """One check of one machine."""

    def __init__(self, flat: Flat, declarations: Declarations, problems: Problems) -> None:
        self._flat = flat
        self._declarations = declarations
        self._problems = problems

    def check(self) -> None:
        """Everything; faults go to the problems."""
        for section in SECTIONS:
            for name, entry in self._flat.data[section].items():
                if isinstance(entry, dict):
                    for member, kind in links_of(section, entry, self._declarations).items():
                        self._link((section, name, member), entry.get(member), kind)
        for space, regions in self._flat.data["maps"].items():
            for region in regions:
                self._map(space, region)
        drivers: dict[tuple[str, str, int], Path] = {}
        for output, end in self._flat.data["wires"].items():
            path = ("wires", output)
            self._line(path, output, "outputs", True)
            key = self._line(path, end, "inputs", False) if isinstance(end, str) else None
            if key is not None and (other := drivers.setdefault(key, path)) != path:
                place, _ = self._flat.place(other)
                self._fault(path, f"an input has one driver; another one is at {place}", end)

    def _fault(self, path: Path, rule: str, value: Any = ..., *, key: bool = False, near: Near | None = None) -> None:
        place, written = self._flat.place(path, key)
        if not self._problems.at(place):
            self._problems.add(place, written, rule, value, near)

    def _link(self, path: Path, text: Any, kind: str) -> None:
        if not isinstance(text, str) or not text:
            return
        section = str(path[0]) if not kind else _BACKENDS.get(kind, "")
        held = [self._flat.data[each] for each in ([section] if section else ["objects", "devices"])]
        if not text.startswith("/"):
            found = [things[text] for things in held if text in things]
            kinds = [str(entry.get("type")) if isinstance(entry, dict) else "" for entry in found]
            if kinds:
                # A device stands for the bus of its name; what is of no known type has its own fault.
                if not section and not any(self._fits(each, kind) for each in kinds):
                    self._fault(path, f"must name an object of type {kind}; '{text}' is of type {kinds[0]}")
                return
            if not section and any(start in things for start in starts(text) for things in held):
                return  # a part of it
        elif self._under(text):
            return
        part = ", or a part of one as ID/PART" if self._declarations.is_a(kind, "bus") else ""
        what = f"one of the {section}" if section else f"an object of type {kind}"
        self._fault(path, f"must name {what} of this machine{part}", text, near=Near(text, chain(*held)))

    def _fits(self, kind: str, wanted: str) -> bool:
        known, is_a = kind in self._declarations.types, self._declarations.is_a
        return not known or is_a(kind, wanted) or is_a(wanted, "bus")

    def _is_space(self, name: str) -> bool:
        entry = self._flat.data["objects"].get(name)
        return isinstance(entry, dict) and entry.get("type") == "address-space"

    def _entry(self, name: str) -> Any:
        return self._flat.data["devices"].get(name, self._flat.data["objects"].get(name))

    def _under(self, path: str) -> bool:
        """Whether a path begins with something of this machine."""
        places = {"chardevs": "/chardevs/", "blockdevs": "/blockdevs/", "netdevs": "/netdevs/", "objects": "/objects/",
                  "devices": "/machine/peripheral/"}  # fmt: skip
        for section, place in places.items():
            if path.startswith(place):
                return path[len(place) :].partition("/")[0] in self._flat.data[section]
        return False

    def _map(self, space: str, region: str) -> None:
        names = self._flat.data["objects"]
        found = names.get(space)
        path = ("maps", space, region)
        kind = found.get("type") if isinstance(found, dict) else ""
        if (
            not space.startswith("/")
            and (not isinstance(kind, str) or kind in ("", *self._declarations.types))
            and kind != "address-space"
        ):
            rule = f"'{shortened(space)}' must be an address space of this machine"
            self._fault(path, rule, key=True, near=Near(space, (name for name in names if self._is_space(name))))
        if region.startswith("/"):
            return
        owner, _, name = region.partition("/")
        entry = self._entry(owner)
        if entry is None:
            near = Near(owner, chain(names, self._flat.data["devices"]))
            self._fault(path, "must name a device or memory of this machine", region, key=True, near=near)
            return
        kind = str(entry.get("type")) if isinstance(entry, dict) else ""
        row = self._declarations.types.get(kind)
        if row is None or not row["regions"]:
            if row is not None and not self._declarations.is_a(kind, "memory-backend"):
                self._fault(path, f"type '{kind}' has no region that could be mapped", key=True)
            return
        have = ", ".join(f"{owner}/{each}" for each in row["regions"])
        if name and name not in row["regions"]:
            rule = f"type '{kind}' has no region '{shortened(name)}' (it has: {have})"
            self._fault(path, rule, key=True, near=Near(name, row["regions"]))
        elif not name and len(row["regions"]) > 1:
            self._fault(path, f"must say which region of '{owner}' is meant: {have}", key=True)

    def _line(self, path: Path, text: str, table: str, key: bool) -> tuple[str, str, int] | None:
        """(id, line, index) of one end that is right as far as one can tell."""
        owner, _, line = text.rpartition("/")
        match = _LINE.fullmatch(line)
        if not owner or owner.startswith("/") or match is None:
            return None
        entry = self._flat.data["devices"].get(owner)
        if entry is None:
            rule = "must begin with the id of a device of this machine"
            self._fault(path, rule, text, key=key, near=Near(owner, self._flat.data["devices"]))
            return None
        kind = str(entry.get("type")) if isinstance(entry, dict) else ""
        row = self._declarations.types.get(kind)
        name, index = match[1], int(match[2] or 0)
        if row is None:
            return None
        lines = row[table]
        if name not in lines:
            have = f"(it has: {', '.join(lines) or 'none'})"
            rule = f"type '{kind}' has no {table[:-1]} '{shortened(name)}' {have}"
            self._fault(path, rule, key=key, near=Near(name, lines))
            return None
        count = None if row.get("computed-lines") else self._count(entry, row, lines[name])
        if count is not None and index >= count:
            self._fault(path, f"'{owner}' has {count} {table} '{name}', counted from 0", text, key=key)
            return None
        return owner, name, index

    @staticmethod
    def _count(entry: Mapping[str, Any], row: Mapping[str, Any], declared: int | str) -> int | None:
        if isinstance(declared, int):
            return declared
        prop = next((each for each in row["properties"] if each["name"] == declared), None)
        # One that isn't for clients follows from others.
        known = prop is not None and prop["kind"] in ("config", "tunable")
        value = entry.get(declared, prop.get("default")) if prop is not None and known else None
        return value if isinstance(value, int) else None
