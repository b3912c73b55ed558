"""The machine of a command line: a machine type's file, compiled, with what options set in it."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from ratite.daemon.personality.start import Step
from ratite.daemon.personality.syntax import CommandLineError, as_bool, as_size
from ratite.daemon.personality.values import properties
from ratite.qapi.errors import GenericError
from ratite.qapi.machinefile.types import MachineType, machine_types

if TYPE_CHECKING:
    from ratite.core.objects.registry import TypeRegistry
    from ratite.qapi.machinefile.declarations import Declarations
    from ratite.qapi.resolved import ResolvedSchema

LIST_MACHINES = "Use -machine help to list supported machines"
# Properties of every machine that say what is so anyway: what they ask for is there, or what they forbid isn't.
_EVERY: Mapping[str, tuple[str, ...]] = MappingProxyType({
    "usb": ("off",),
    "graphics": ("off", "on"),
    "mem-merge": ("off", "on"),
    "dump-guest-core": ("off", "on"),
    "aux-ram-share": ("off",),
    "suppress-vmdesc": ("off", "on"),
})  # fmt: skip
EVERY = tuple(_EVERY)


def types_of(target: str) -> list[MachineType]:
    """The machine types of a program for this target, by name."""
    return [found for _, found in sorted(machine_types().items()) if found.is_for(target)]


# Properties of every machine's type, as QEMU names their types.
_PROPERTIES: tuple[tuple[str, str, str], ...] = (
    ("kernel", "str", "the kernel"),
    ("initrd", "str", "the kernel's initial file system"),
    ("append", "str", "the kernel's command line"),
    ("dtb", "str", "the device tree"),
    ("firmware", "str", "the firmware"),
    ("dumpdtb", "str", "write the device tree to this file, and end"),
    ("memory-backend", "link<memory-backend>", "id of the memory object that is the RAM"),
    ("memory", "MemorySizeConfiguration", "how much RAM"),
    ("smp", "SMPConfiguration", "how many CPUs, and how they are arranged"),
    ("boot", "BootConfiguration", "what is booted"),
    *((name, "bool", "on or off") for name in EVERY),
)


def rows_of(target: str) -> dict[str, dict[str, Any]]:
    """The machine types as types of the registry, by name, with the type that they are all of."""
    found = {"machine": _row("machine", "object", True, "a machine", [])}
    for kind in types_of(target):
        properties = [{"name": name, "kind": "config", "type": shown, "text": text} for name, shown, text in _PROPERTIES]
        properties += [
            {"name": name, "kind": "config", "type": row["type"], "text": row.get("description", "")}
            for name, row in kind.properties.items()
        ]
        found[kind.qom_type] = _row(kind.qom_type, "machine", False, kind.description, properties)
    return found


def _row(name: str, parent: str, abstract: bool, text: str, properties: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "name": name, "parent": parent, "abstract": abstract, "text": text, "kind": "", "bus": "", "hotplug": False,
        "targets": [], "implements": [], "requires": [], "module": "", "properties": properties, "inputs": {}, "outputs": {},
        "regions": {},
    }  # fmt: skip


def choose(name: str, target: str) -> MachineType:
    """The machine type of that name, or the default one for "".  CommandLineError."""
    have = types_of(target)
    for found in have:
        if found.name == name or (not name and target in found.get("default-of", ())):
            return found
    if not name:
        raise CommandLineError(f"No machine specified, and there is no default\n{LIST_MACHINES}")
    raise CommandLineError(f'unsupported machine type: "{name}"\n{LIST_MACHINES}')


def firmware_of(kind: MachineType, target: str, wish: str, folders: Sequence[str]) -> str:
    """The file of -bios: `wish`, in the folders if it is only a name; "" for none.  CommandLineError."""
    if wish == "none":
        return ""
    names = [wish] if wish not in ("", "default") else kind.get("firmware", {}).get(target, [])
    for name in names:
        for path in [name, *(os.path.join(folder, name) for folder in folders)]:
            if os.path.isfile(path):
                return path
    if wish not in ("", "default"):
        raise CommandLineError(f'Unable to find the firmware "{wish}"')
    return ""


class Board:
    """The commands of one machine.  `steps` begin with its backends and objects; machine-create is not among them."""

    def __init__(self, kind: MachineType, registry: TypeRegistry) -> None:
        self.kind = kind
        self._registry = registry
        self.steps: list[Step] = []

    # -- making

    def compile(self, arguments: Mapping[str, Any], schema: ResolvedSchema) -> None:
        """The file's commands with these values of its parameters.  CommandLineError."""
        from ratite.qapi.machinefile.compile import trusted_commands
        from ratite.qapi.machinefile.document import Document
        from ratite.qapi.machinefile.problems import MachineFileError

        document = Document(self.kind.origin, self.kind.document, {}, {})
        try:
            self._take(trusted_commands(document, arguments, self._declarations(schema), _read))
        except MachineFileError as error:
            raise CommandLineError("\n".join(problem.rule for problem in error.problems)) from None

    def compile_file(self, name: str, arguments: Callable[[MachineType], Mapping[str, Any]], schema: ResolvedSchema) -> None:
        """The commands of a file of the user's, or of a profile; `arguments` sees its header.  CommandLineError."""
        from ratite.qapi.machinefile import files
        from ratite.qapi.machinefile.compile import Compiler
        from ratite.qapi.machinefile.problems import MachineFileError

        def chosen(document: Mapping[str, Any]) -> Mapping[str, Any]:
            self.kind = MachineType(self.kind.name, document, name)
            return arguments(self.kind)

        try:
            self._take(Compiler(self._declarations(schema)).compile_named(name, chosen, files.read).commands)
        except MachineFileError as error:
            raise CommandLineError(str(error)) from None

    def _take(self, commands: Sequence[tuple[str, dict[str, Any]]]) -> None:
        self.steps = [Step(name, dict(given)) for name, given in commands if name != "x-exit-preconfig"]

    def _declarations(self, schema: ResolvedSchema) -> Declarations:
        from ratite.qapi.machinefile.declarations import Declarations

        rows = {row.name: row.data for row in self._registry.types()}
        return Declarations(rows, self._registry.targets(), schema)

    # -- changing

    def find(self, id: str) -> Step | None:
        """The command that makes a thing."""
        return next((step for step in self.steps if step.makes("object-add", id) or step.makes("device_add", id)), None)

    def set(self, place: str, value: Any) -> None:
        """ID/PROPERTY.  CommandLineError where the header of a user's file names what the machine hasn't."""
        name, _, prop = place.rpartition("/")
        step = self.find(name)
        if step is None:
            raise CommandLineError(f"{self.kind.origin}: machine-type: '{place}' names nothing in this machine")
        step.arguments[prop] = value

    def replace_ram(self, id: str) -> None:
        """The RAM is another object, which the user makes."""
        own = self.kind.get("ram")
        self.steps = [step for step in self.steps if not step.makes("object-add", own)]
        for step in self.steps:
            if step.command == "map-region" and step.arguments["region"] == own:
                step.arguments["region"] = id

    def main_ram(self, keep: bool) -> tuple[str, str, int, int] | None:
        """The RAM of the machine's type: its object, the space where it is, from where on, and its bytes.  Unless it is to be
        kept the object isn't made at all."""
        step = next((step for step in self.steps if step.makes("object-add", self.kind.get("ram", ""))), None)
        if step is None:
            return None
        id = step.arguments["id"]
        place = next(one.arguments for one in self.steps if one.command == "map-region" and one.arguments["region"] == id)
        if not keep:
            self.steps = [one for one in self.steps if one is not step and one.arguments is not place]
        return id, place["space"], place["offset"], step.arguments["size"]

    def set_all(self, type_name: str, given: Mapping[str, Any]) -> None:
        """Defaults of properties of every thing of the type, where nothing else is said."""
        for step in self.steps:
            set_defaults(self._registry, step, type_name, given)

    def cpus(self) -> list[Step]:
        """The commands that make CPUs."""
        found = []
        for step in self.steps:
            row = self._registry.find(step.arguments["driver"]) if step.command == "device_add" else None
            if row is not None and row.kind == "cpu":
                found.append(step)
        return found


def set_defaults(registry: TypeRegistry, step: Step, type_name: str, given: Mapping[str, Any]) -> None:
    """-global: properties of a type, for what is of it and says nothing else.  CommandLineError."""
    made = step.arguments.get("driver" if step.command == "device_add" else "qom-type")
    if step.command not in ("device_add", "object-add") or made is None or not registry.is_a(made, type_name):
        return
    rows = [row for row in registry.properties(made) if row["kind"] in ("config", "tunable")]
    for name, text in given.items():
        if all(row["name"] != name for row in rows):
            raise CommandLineError(f"can't apply global {type_name}.{name}={text}: Property '{made}.{name}' not found")
        if name not in step.arguments:
            step.arguments.update(properties(rows, {name: text}))


def check_every(name: str, text: str) -> bool:
    """Whether it is a property of every machine; CommandLineError for a value that can't be obeyed."""
    if name not in _EVERY:
        return False
    value = "on" if as_bool(name, text) else "off"
    if value not in _EVERY[name]:
        raise CommandLineError(f"Property '{name}' of a machine must be '{_EVERY[name][0]}': there is nothing else here")
    return True


def memory_size(text: str) -> int:
    """-m's value in bytes: megabytes where no unit is given."""
    return as_size("size", text, "m")


def _read(kind: str, name: str, origin: str) -> tuple[str, str]:
    from ratite.qapi.machinefile import files

    if kind != "profile":
        raise GenericError("a machine type includes profiles, no files")
    return files.read(kind, name, origin)
