"""Machine types: machine files with a header `machine-type`, which says what QEMU's options set in them.

They lie as types/NAME.yaml in the packages that the entry points `ratite.machines` name.  Those of ratite are kept read and
checked in `ratite/machine-types.json`, so that a start reads no YAML:

    python -m ratite.qapi.machinefile.types [--check]
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from ratite.qapi.plugins import plugins_maybe

_PACKAGE = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
_INDEX = os.path.join(_PACKAGE, "machine-types.json")
_FOLDER = "types"
HEADER = "machine-type"

# Members of a header, with what they are: a JSON type, or "targets" for a mapping by target.
MEMBERS: Mapping[str, str] = MappingProxyType({
    "targets": "list",  # that it is for; none: for all
    "default-of": "list",  # targets whose machine it is when nothing is said
    "deprecated-of": "list",  # targets for which it is deprecated
    "max-cpus": "integer",
    "cpu-types": "mapping",  # the CPUs' type by target, when nothing is said
    "target": "string",  # the parameter that gets the target's name
    "cpu": "string",  # ... the CPUs' type
    "cpus": "string",  # ... their number
    "memory": "string",  # ... the bytes of RAM
    "accel": "string",  # ... the accelerator
    "file": "string",  # the parameter that names the file which is the machine
    "ram": "string",  # id of the memory object that is the RAM
    "numa": "boolean",  # whether there may be NUMA nodes, whose memory stands in the place of the RAM
    "ram-id": "string",  # what it is called to those who may give another one instead
    "aliases": "mapping",  # of options: ID/PROPERTY
    "serials": "list",  # ID/PROPERTY of each serial line's chardev
    "firmware": "mapping",  # files to look for when no -bios is given, by target
    "buses": "mapping",  # names that QEMU gives to buses: theirs here
    "plugs": "mapping",  # buses that take a device which names none, by the bus's type, in the order in which they are taken
    "disk": "string",  # the type of device of a -drive that says none
    "network": "string",  # the type of device of a -nic that says none
})  # fmt: skip


class MachineType:
    """One machine type.  `document` is the file's data; `origin` its path."""

    def __init__(self, name: str, document: Mapping[str, Any], origin: str) -> None:
        self.name = name
        self.document = document
        self.origin = origin
        self.header: Mapping[str, Any] = document.get(HEADER, {})
        self.description = str(document.get("description", ""))

    @property
    def targets(self) -> Sequence[str]:
        """That it is for; none: for all."""
        found: Sequence[str] = self.header.get("targets", ())
        return found

    @property
    def qom_type(self) -> str:
        """The type of its object at /machine."""
        return f"{self.name}-machine"

    @property
    def properties(self) -> dict[str, Mapping[str, Any]]:
        """The parameters that are given as properties of the machine: those that no option sets."""
        taken = {self.header.get(key) for key in ("target", "cpu", "cpus", "memory", "accel")}
        rows: Mapping[str, Mapping[str, Any]] = self.document.get("parameters", {})
        return {name: row for name, row in rows.items() if name not in taken}

    def get(self, key: str, default: Any = None) -> Any:
        """A member of the header."""
        return self.header.get(key, default)

    def is_for(self, target: str) -> bool:
        """Whether a program for this target has it."""
        return not self.targets or target in self.targets


def machine_types() -> dict[str, MachineType]:
    """Every machine type by name: ratite's, then those of other packages."""
    with open(_INDEX, "rb") as file:
        index: Mapping[str, Mapping[str, Any]] = json.load(file)
    found = {name: MachineType(name, row, f"{_PACKAGE}/machines/{_FOLDER}/{name}.yaml") for name, row in index.items()}
    for path in _others() if plugins_maybe() else ():
        name = os.path.basename(path).removesuffix(".yaml")
        if name not in found:
            found[name] = MachineType(name, read_file(path), path)
    return found


def read_file(path: str) -> Mapping[str, Any]:
    """A machine file's data.  MachineFileError, OSError."""
    from ratite.qapi.machinefile.document import read_document
    from ratite.qapi.machinefile.problems import Problems

    problems = Problems()
    with open(path, encoding="utf-8") as file:
        document = read_document(path, file.read(), problems)
    problems.check()
    assert document is not None, "else there is a problem"
    data: Mapping[str, Any] = document.data
    return data


def _others() -> Iterator[str]:
    from ratite.qapi.machinefile.files import GROUP, folders

    for folder in sorted(folders((GROUP,))):
        if str(folder) != os.path.join(_PACKAGE, "machines"):
            yield from sorted(map(str, folder.glob(f"{_FOLDER}/*.yaml")))


def build() -> bytes:
    """The index: one machine type a line, so that a diff shows which changed."""
    place = os.path.join(_PACKAGE, "machines", _FOLDER)
    names = sorted(name.removesuffix(".yaml") for name in os.listdir(place) if name.endswith(".yaml"))
    lines = [f" {json.dumps(name)}: {json.dumps(read_file(os.path.join(place, f'{name}.yaml')))}" for name in names]
    return ("{\n" + ",\n".join(lines) + "\n}\n").encode()


def main(argv: Sequence[str]) -> int:
    """Write the index, or with --check compare it; the exit status."""
    from pathlib import Path

    from ratite.qapi.generated import keep

    return keep({Path(_INDEX): build()}, argv, "python -m ratite.qapi.machinefile.types")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
