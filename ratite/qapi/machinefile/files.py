"""Where documents and declarations are: the one file here that reads from disk.

A profile is called MACHINE/PROFILE@VERSION and lies as MACHINE/PROFILE@VERSION.yaml in a package that an entry point of the
group `ratite.machines` names; without a version the newest is meant.  No package is imported to look.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

from ratite.qapi.errors import GenericError
from ratite.qapi.machinefile.declarations import Declarations
from ratite.qapi.machinefile.document import TEXT_MAX
from ratite.qapi.machinefile.problems import nearest
from ratite.qapi.resolved import ResolvedSchema

GROUP = "ratite.machines"
_TYPE_GROUPS = ("ratite.objects", "ratite.devices", "ratite.targets", "ratite.accelerators")
_PACKAGE = Path(__file__).resolve().parents[2]
_FILE = re.compile(r"([a-z0-9][a-z0-9-]*)@([1-9][0-9]{0,3})\.yaml")


class Profile(NamedTuple):
    """`name` without version: "riscv-virt/recommended"; `newest` of its versions."""

    name: str
    version: int
    path: Path
    newest: bool

    @property
    def full_name(self) -> str:
        """With the version."""
        return f"{self.name}@{self.version}"


def declarations() -> Declarations:
    """What this installation has: the types of ratite's manifest and of plug-ins that bring one, and ratite's schema."""
    made = json.loads((_PACKAGE / "manifest.json").read_bytes())
    types, targets = dict(made["types"]), dict(made["targets"])
    for folder in sorted(folders(_TYPE_GROUPS)):
        more = folder / "manifest.json"
        if more.exists():
            read: dict[str, Any] = json.loads(more.read_bytes())
            types = {**read.get("types", {}), **types}
            targets = {**read.get("targets", {}), **targets}
    schema = ResolvedSchema.from_json(json.loads((_PACKAGE / "schema" / "resolved.json").read_bytes()))
    return Declarations(types, targets, schema)


def folders(groups: tuple[str, ...]) -> Iterator[Path]:
    """The folders of the packages that entry points of these groups name."""
    from importlib.metadata import entry_points

    seen: set[str] = set()
    for group in groups:
        for point in entry_points(group=group):
            package = point.value.partition(":")[0]
            if package in seen:
                continue
            seen.add(package)
            try:
                spec = find_spec(package)
            except (ImportError, ValueError):
                continue
            for place in spec.submodule_search_locations or () if spec else ():
                yield Path(place)


def profiles() -> list[Profile]:
    """Every profile, by name and version."""
    found: dict[tuple[str, int], Path] = {}
    for folder in [_PACKAGE / "machines", *sorted(folders((GROUP,)))]:
        for path in folder.glob("*/*.yaml"):
            match = _FILE.fullmatch(path.name)
            if match is not None:
                found.setdefault((f"{path.parent.name}/{match[1]}", int(match[2])), path)
    newest = dict(sorted(found))
    return [Profile(name, version, path, newest[name] == version) for (name, version), path in sorted(found.items())]


def profile(name: str) -> Profile:
    """The one of that name, with or without version; GenericError."""
    have = profiles()
    for each in have:
        if name == each.full_name or (name == each.name and each.newest):
            return each
    names = [each.name for each in have if each.newest]
    raise GenericError(f"there is no profile '{name}'{nearest(name, names)}; there are: {', '.join(names) or 'none'}")


def read(kind: str, name: str, origin: str) -> tuple[str, str]:
    """(canonical name, text) of a file (seen from the one that includes it) or profile.  OSError, GenericError."""
    if kind == "profile":
        found = profile(name)
        return found.full_name, _text(found.path)
    path = Path(name)
    if origin:
        if not origin.endswith((".yaml", ".yml", ".json")):
            raise GenericError("a profile includes profiles, no files")
        path = Path(origin).parent / path
    return str(path.resolve() if origin else path), _text(path)


def _text(path: Path) -> str:
    with path.open(encoding="utf-8") as file:
        return file.read(TEXT_MAX + 1)
