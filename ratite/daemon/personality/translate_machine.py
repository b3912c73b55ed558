"""Options for the machine: its type and properties, CPUs, memory, what it boots."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from ratite.daemon.personality.line import Line
from ratite.daemon.personality.machines import Board, check_every, choose, firmware_of, memory_size
from ratite.daemon.personality.syntax import CommandLineError, checked, pairs
from ratite.daemon.personality.topology import topology
from ratite.daemon.personality.values import properties
from ratite.qapi.machinefile.types import MachineType

_WHOLE = "file"
# -machine's other spellings of options.
_SPELLED: Mapping[str, str] = MappingProxyType(
    {"kernel": "kernel", "initrd": "initrd", "append": "append", "dtb": "dtb", "firmware": "bios"}
)

# What messages call the files of options.
_CALLED = (("kernel", "kernel"), ("initrd", "ramdisk"), ("bios", "firmware"), ("dtb", "device tree"))


def choose_machine(line: Line) -> dict[str, str]:
    """Set the line's machine type; its properties as they were given.  CommandLineError."""
    found: dict[str, str] = {}
    for given in line.of("machine"):
        found.update(pairs(given.value, given.option.implied))
    name = found.pop("type", "")
    line.machine = choose(name, line.target)
    line.start.machine = line.machine.qom_type
    line.start.own = not line.machine.get("file")
    return found


def translate_machine(line: Line, given: dict[str, str], serials: list[str]) -> Board | None:
    """The machine's commands; None for one with nothing in it.  CommandLineError."""
    kind = line.machine
    assert kind is not None, "choose_machine comes first"
    accel = _accelerator(line, given)
    boot = _boot_options(line, given)
    memory_backend = given.pop("memory-backend", "")
    line.start.dump_tree = given.pop("dumpdtb", "")
    arguments: dict[str, Any] = {}
    for name, text in list(given.items()):
        if check_every(name, text):
            continue
        if name in kind.properties or kind.get("file"):
            arguments[name] = text
        else:
            raise CommandLineError(f"Property '{kind.qom_type}.{name}' not found")
    smp = {key: text for one in line.of("smp") if one.value for key, text in pairs(one.value, one.option.implied)}
    counts = topology(smp, kind.name, kind.get("max-cpus", 1))
    sizes = line.of("m")
    size = _memory(line)

    def chosen(kind: MachineType) -> Mapping[str, Any]:
        """What options say, for the parameters that the header names; what is given by name goes first."""
        own = not line.start.own
        own = line.start.own
        found = {
            kind.get("cpus"): counts.cpus if own or smp else None, kind.get("memory"): size if own or sizes else None,
            kind.get("target"): line.target, kind.get("accel"): accel or None, kind.get("cpu"): _cpu_type(line, kind),
        }  # fmt: skip
        return {name: value for name, value in found.items() if name and value is not None} | arguments

    board = Board(kind, line.registry)
    if kind.get("file"):
        board.compile_file(_file(line, arguments), chosen, line.schema)
        kind = board.kind
    _firmware(line, kind, boot)
    line.start.numa = not line.start.own or (bool(kind.get("numa")) and not memory_backend)
    nodes = line.has("numa") and _numa(line, memory_backend)
    if line.start.own:
        if not kind.document.get("devices"):
            _boot(board, boot)
            return None
        board.compile(chosen(kind), line.schema)
        if line.start.numa:
            line.start.main_ram = board.main_ram(keep=not nodes)
    if memory_backend:
        _use_backend(line, board, memory_backend, size if sizes else None)
    _boot(board, boot)
    for place, chardev in zip(kind.get("serials", ()), serials, strict=False):
        if chardev:
            board.set(place, chardev)
    _cpu_properties(line, board)
    return board


def _file(line: Line, arguments: dict[str, Any]) -> str:
    """The name of the file that is the machine."""
    assert line.machine is not None
    path: str = arguments.pop(_WHOLE, "")
    if not path:
        raise CommandLineError(f"Property '{line.machine.qom_type}.{_WHOLE}' must name the machine file")
    return path


# -- accelerator, CPUs, memory


def _numa(line: Line, memory_backend: str) -> bool:
    """Whether NUMA nodes have memories of their own, which stand in the place of the machine's."""
    from ratite.daemon.personality.numa import translate_numa

    translate_numa(line)
    memories = any("memdev" in step.arguments for step in line.start.nodes)
    if memories and memory_backend:
        raise CommandLineError("'-machine memory-backend' and '-numa memdev' properties are mutually exclusive")
    if not line.start.numa:
        raise CommandLineError("NUMA is not supported by this machine-type")
    return memories

def _accelerator(line: Line, given: dict[str, str]) -> str:
    """The first of those that are wished for which there is; "": the best.  CommandLineError."""
    wished = [("", name) for name in given.pop("accel", "").split(":") if name]
    named = line.of("accel")
    if wished and named:
        raise CommandLineError('The -accel and "-machine accel=" options are incompatible')
    for one in named:
        with one.named():
            wished.append((f"{one.written}: ", _accelerator_named(dict(pairs(one.value, one.option.implied)))))
    have = line.registry.accelerators() if wished else {}
    for _, name in wished:
        if any(row.get("alias") == name for row in have.values()):
            # What QEMU calls so is whichever serves best.
            return ""
        if name in have:
            return name
    if wished:
        raise CommandLineError("\n".join(f"{where}invalid accelerator {name}" for where, name in wished))
    return ""


def _accelerator_named(found: dict[str, str]) -> str:
    """The accelerator of one -accel.  How CPUs share the host is the engine's business, which `thread` never changes."""
    name = found.pop("accel", "")
    if found.pop("thread", "multi") not in ("single", "multi"):
        raise CommandLineError("thread: must be 'single' or 'multi'")
    if found:
        raise CommandLineError(f"Property '{name}-accel.{min(found)}' not found")
    return name


def _memory(line: Line) -> int | None:
    found = None
    for given in line.of("m"):
        with given.named():
            text = checked(pairs(given.value, given.option.implied), given.option.parameters).get("size")
            found = memory_size(text) or None if text else found
    return found


def _use_backend(line: Line, board: Board, name: str, size: int | None) -> None:
    own = next((step for step in line.start.steps if step.makes("object-add", name)), None)
    if own is None:
        raise CommandLineError(f"Memory backend '{name}' not found")
    if size is not None and own.arguments.get("size") not in (None, size):
        raise CommandLineError("Machine memory size does not match the size of the memory backend")
    board.replace_ram(name)


def cpu_models(line: Line) -> dict[str, str]:
    """The target's CPU models: name and type."""
    return {
        row.name.removesuffix(f"-{row.data['parent']}"): row.name
        for row in line.registry.types(abstract=False)
        if row.kind == "cpu" and line.target in row.data["targets"]
    }


def _cpu_type(line: Line, kind: Any) -> str | None:
    given = line.last("cpu")
    if given is None:
        found: str | None = kind.get("cpu-types", {}).get(line.target)
        return found
    name = pairs(given.value, "model")[0][1]
    if not name:
        raise CommandLineError("-cpu option cannot be empty")
    models = cpu_models(line)
    if name not in models and name not in models.values():
        raise CommandLineError(f"unable to find CPU model '{name}'")
    return models.get(name, name)


def _cpu_properties(line: Line, board: Board) -> None:
    given = line.last("cpu")
    more = {} if given is None else dict(pairs(given.value, "model")[1:])
    for step in board.cpus() if more else ():
        driver = step.arguments["driver"]
        rows = [row for row in line.registry.properties(driver) if row["kind"] in ("config", "tunable")]
        for name, text in more.items():
            if all(row["name"] != name for row in rows):
                raise CommandLineError(f"can't apply global {driver}.{name}={text}: Property '{driver}.{name}' not found")
        step.arguments.update(properties(rows, more))


# -- what is booted


def _boot_options(line: Line, given: dict[str, str]) -> dict[str, str]:
    """Kernel, ramdisk and so on, by the options' names."""
    found = {}
    for spelling, key in _SPELLED.items():
        option = line.last(key)
        text = given.pop(spelling, None) if option is None else option.value
        if text is not None:
            found[key] = text
    for key, called in _CALLED:
        if found.get(key) == "" and key != "bios":
            raise CommandLineError(f"could not load {called} ''")
    for key in ("initrd", "append"):
        if key in found and "kernel" not in found:
            raise CommandLineError(f"-{key} only allowed with -kernel option")
    return found


def _firmware(line: Line, kind: MachineType, found: dict[str, str]) -> None:
    """The machine's default firmware where none is said."""
    if kind.get("firmware") or "bios" in found:
        wish = found.pop("bios", "")
        path = firmware_of(kind, line.target, wish, [one.value for one in line.of("L")])
        if not path and wish != "none" and "kernel" in found and kind.get("firmware", {}).get(line.target):
            names = kind.get("firmware")[line.target]
            raise CommandLineError(f'Unable to find the firmware "{names[0]}" (-bios names one, or none)')
        if path:
            found["bios"] = path
    line.start.loads = {called: found[key] for key, called in _CALLED if key in found}


def _boot(board: Board, found: Mapping[str, str]) -> None:
    aliases = board.kind.get("aliases", {})
    for key, text in found.items():
        if key not in aliases:
            raise CommandLineError(_no_alias(board, key))
        board.set(aliases[key], text)


def _no_alias(board: Board, key: str) -> str:
    prop = "firmware" if key == "bios" else key
    cpus = ", ".join(f"'{step.arguments['id']}'" for step in board.cpus())
    if cpus:
        return f"The -{key} parameter is not supported: set the property '{prop}' of one of the CPUs {cpus} in the machine file"
    return f"The -{key} parameter is not supported (use the generic 'loader' device instead)."
