"""Arguments for commands, made from the schema of a view: mostly of the right shape, and now and then of a wrong one.

Types become functions once, and chance is one number in [0, 1) at a time: an input must cost little beside what it tests.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import MappingProxyType
from typing import Any

from ratite.daemon.views import View
from ratite.qapi.resolved import INTEGER_RANGES, element_type, holds

IDS = (
    "ram", "uart", "con", "void", "disk", "source", "riscv64", "riscv64-cpu", "riscv64-view", "microblaze", "microblaze-cpu",
    "a", "b", "n0", "monitor1", "", "1 b", "nope", "\u00e9", "x" * 200,
)  # fmt: skip
PATHS = (
    "/", "/machine", "/machine/peripheral", "/machine/peripheral/uart", "/machine/peripheral/riscv64-cpu", "/objects/ram",
    "/objects", "/chardevs/con", "/blockdevs/disk", "uart", "source", "", "/nope", "//machine/", "/machine/../objects",
)  # fmt: skip
FILES = ("t/disk", "t/new", "t/sleep", "t/../disk", "t/no/such", "t", "/nonexistent/x", "", "a\0b", "t/sock", "/dev/fdset/1")
LINES = (
    "info status", "info registers", "info registers -a", "info qtree", "info mtree", "info mtree -f", "info cpus", "info nope",
    "info", "help", "help info", "x /4x 0", "x /4i 0x80000000", "xp /2xg 0x80000000", "print 1+2*(3", "print $pc",
    "print /x -1", "qom-list /", "qom-get /machine type", "qom-set uart x 1", "device_add nope", "device_del source", "stop",
    "cont", "system_reset", "object_del a", "log all", "print 1/0", "xp /99999999x 0", "x /s", "\t;", "info chardev", "nmi",
    "memsave 0 4 t/new", "pmemsave 0x80000000 16 t/new", "cpu 0", "cpu 9", "sum 0 4", "info block", "info jit",
)  # fmt: skip
WORDS: MappingProxyType[str, Sequence[str]] = MappingProxyType(
    {
        "path": (*PATHS, *FILES), "qom-path": PATHS, "filename": FILES, "out": FILES, "in": FILES, "file": FILES,
        "mem-path": FILES, "logfile": FILES, "protocol": ("file:t/new", "fd:a", "", "nope:x"), "command-line": LINES,
        "property": ("type", "size", "level", "primary-target", "cpu-index", "share", "virtual-time", "nope", "phase"),
        "typename": ("device", "object", "ns16550", "rv64-riscv-cpu", "memory-backend-ram", "nope", "cpu-cluster"),
        "driver": ("ns16550", "irq-source", "nope", "device", "virtio-mmio", "virtio-rng-device", "rv64-riscv-cpu"),
        "target": ("riscv64", "riscv32", "microblaze", "nope", ""), "region": ("ram", "uart/regs", "ram/x", "nope", "uart"),
        "output": ("irq", "nope", "irq[1]"), "input": ("meip", "mtip", "reset", "halt", "nope"), "fdname": ("a", "b", "1", ""),
        "cluster": ("riscv64", "microblaze", "nope"), "chardev": ("con", "void", "a", "nope"), "drive": ("disk", "nope"),
        "data": ("", "hello", "aGVsbG8=", "\x00\xff", "x" * 5000), "accel": ("interp", "nope", ""),
    }
)  # fmt: skip
SCALARS = (None, True, False, 0, "", "/", "/machine", "oob", "memory-backend-ram", "ns16550", "socket", "%s", "\x7f\x00")
NUMBERS = (0, 1, 2, 3, 4, 8, 16, 4096, 4097, 1 << 20, 0x10000000, 0x80000000, 0x80000800, (1 << 31) - 1, 1 << 32, (1 << 63) - 1)

# What works on one machine or another, and what undoes it: random arguments seldom fit together.
WORKS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("qom-set", {"path": "/machine/peripheral/source", "property": "level", "value": True}),
    ("qom-set", {"path": "/machine", "property": "primary-target", "value": "microblaze"}),
    ("qom-set", {"path": "/machine/peripheral/riscv64-cpu", "property": "pc", "value": 0x80000000}),
    ("qom-get", {"path": "/machine/peripheral/riscv64-cpu", "property": "activity"}),
    ("qom-list-get", {"paths": ["/machine", "/objects/ram"]}),
    ("object-add", {"qom-type": "memory-backend-ram", "id": "a", "size": 65536}), ("object-del", {"id": "a"}),
    ("object-add", {"qom-type": "rng-builtin", "id": "b"}), ("object-del", {"id": "b"}),
    ("set-action", {"panic": "pause", "watchdog": "none"}),
    ("map-region", {"space": "riscv64-view", "region": "a", "offset": 0x90000000}),
    ("unmap-region", {"space": "riscv64-view", "region": "a", "offset": 0x90000000}),
    ("device_add", {"driver": "irq-source", "id": "n0"}), ("device_del", {"id": "n0"}),
    ("device_add", {"driver": "ns16550", "id": "n1", "chardev": "void"}), ("device_del", {"id": "n1"}),
    ("device_add", {"driver": "virtio-mmio", "id": "n2"}), ("device_del", {"id": "n2"}),
    ("device_add", {"driver": "virtio-rng-device", "id": "n3"}), ("device_del", {"id": "n3"}),
    ("wire-irq", {"from": "source", "output": "irq", "to": "riscv64-cpu", "input": "mtip"}),
    ("unwire-irq", {"to": "riscv64-cpu", "input": "mtip"}), ("unwire-irq", {"to": "riscv64-cpu", "input": "meip"}),
    ("chardev-add", {"id": "a", "backend": {"type": "ringbuf", "data": {"size": 64}}}), ("chardev-remove", {"id": "a"}),
    ("chardev-add", {"id": "b", "backend": {"type": "file", "data": {"out": "t/new"}}}), ("chardev-remove", {"id": "b"}),
    ("chardev-add", {"id": "n0", "backend": {"type": "socket", "data": {
        "addr": {"type": "unix", "data": {"path": "t/sock"}}, "server": True, "wait": False}}}),
    ("chardev-remove", {"id": "n0"}),
    ("ringbuf-write", {"device": "con", "data": "hello"}), ("ringbuf-read", {"device": "con", "size": 100}),
    ("blockdev-add", {"driver": "file", "node-name": "a", "filename": "t/disk"}), ("blockdev-del", {"node-name": "a"}),
    ("blockdev-add", {"driver": "raw", "node-name": "b", "file": "disk"}), ("blockdev-del", {"node-name": "b"}),
    ("netdev_add", {"type": "stream", "id": "a", "server": True, "addr": {"type": "unix", "path": "t/net"}}),
    ("netdev_del", {"id": "a"}), ("memory-write", {"address": 0x80000100, "data": "aGVsbG8="}),
    ("query-memory", {"address": 0x80000000, "size": 64}), ("query-registers", {"cpu": "riscv64-cpu"}),
    ("memsave", {"val": 0x80000000, "size": 64, "filename": "t/new"}), ("x-exit-preconfig", {}), ("machine-wire", {}),
    ("pmemsave", {"val": 0x80000000, "size": 64, "filename": "t/new"}), ("stop", {}), ("cont", {}), ("system_reset", {}),
    ("query-cpu-model-expansion", {"type": "full", "model": {"name": "rv64"}}), ("machine-create", {}),
    ("getfd", {"fdname": "a"}), ("closefd", {"fdname": "a"}), ("add-fd", {"fdset-id": 1}), ("remove-fd", {"fdset-id": 1}),
)  # fmt: skip


Draw = Callable[[], float]  # the next number in [0, 1)
Make = Callable[[Draw, int], Any]  # a value, nested so deep at most


def pick(draw: Draw, items: Sequence[Any]) -> Any:
    """One of them."""
    return items[int(draw() * len(items))]


def anything(draw: Draw, depth: int) -> Any:
    """A JSON value of any shape."""
    roll = int(draw() * (10 if depth else 8))
    if roll == 8:
        return [anything(draw, depth - 1) for _ in range(int(draw() * 4))]
    if roll == 9:
        return {pick(draw, ("a", "type", "data", "id", "\u2603")): anything(draw, depth - 1) for _ in range(int(draw() * 3))}
    if roll == 3:
        return int(draw() * (1 << 53)) << 11 | int(draw() * (1 << 11)) if draw() < 0.7 else -int(draw() * (1 << 53)) << 10
    if roll == 4:
        return draw() * 10 ** int(draw() * 600 - 300)
    if roll == 7:
        ranges = [pick(draw, _CHARACTERS) for _ in range(int(draw() * 6))]
        return "".join(chr(first + int(draw() * count)) for first, count in ranges)
    return pick(draw, SCALARS)


# (first, how many): half a surrogate pair is no character
_CHARACTERS = ((0, 128), (0, 128), (0, 0xD7FF), (0x10000, 0xFFFD))


class Arguments:
    """For the commands of one view."""

    def __init__(self, view: View) -> None:
        self._facts = view.facts
        self._schema = view.tables.schema
        self._commands = view.tables.commands
        self.names = sorted(self._commands)
        self._objects: dict[str, _Object] = {}
        self._values: dict[tuple[str, str], Make] = {}

    def make(self, draw: Draw, name: str) -> dict[str, Any]:
        """Arguments of a command; of one that isn't there, whatever comes."""
        command = self._commands.get(name)
        if command is None or draw() < 0.03:
            return {pick(draw, ("path", "id", "x")): anything(draw, 2)}
        if command.arg_type is None:
            return {} if draw() < 0.9 else {"x": 1}
        made: dict[str, Any] = {}
        self.object(command.arg_type).fill(draw, 4, made)
        if not command.gen:  # device_add: properties that the schema doesn't know
            made.update({key: _text(key)(draw, 0) for key in ("chardev", "cluster", "drive") if draw() < 0.3})
        return made

    def object(self, name: str) -> _Object:
        """What fills objects of a type."""
        found = self._objects.get(name)
        if found is None:
            found = self._objects[name] = _Object(self, name)
        return found

    def members(self, name: str) -> list[tuple[str, float, Make]]:
        """(name, how often it is there, maker) of an object type's members that this view has."""
        return [
            (member["name"], 0.3 if member.get("optional") else 0.97, self._maker(member["type"], member["name"]))
            for member in self._schema.members(name)
            if holds(member.get("if"), self._facts)
        ]

    def branches(self, name: str) -> tuple[str, dict[str, str]]:
        """A union's discriminator, and the type of each of its branches that has members; of others ("", {})."""
        definition = self._schema.get(name)
        if definition["meta"] != "union":
            return "", {}
        branches = {each["name"]: each["type"] for each in definition["branches"] if each["type"] != "q_empty"}
        return definition["discriminator"], branches

    def _maker(self, kind: str, key: str) -> Make:
        found = self._values.get((kind, key))
        if found is None:
            inner = self._right(kind, key)

            def make(draw: Draw, depth: int) -> Any:
                return anything(draw, 2) if draw() < 0.03 else inner(draw, depth)

            # Who would wait for a peer that never comes isn't asked to.
            found = self._values[kind, key] = make if key != "wait" else lambda draw, depth: False
        return found

    def _right(self, kind: str, key: str) -> Make:
        """What makes values of the right type."""
        element = element_type(kind)
        if element is not None:
            return lambda draw, depth: [
                self._maker(element, key)(draw, depth - 1) for _ in range(pick(draw, (0, 1, 1, 2, 5)) if depth > 0 else 0)
            ]
        if kind == "str":
            return _text(key)
        if kind in INTEGER_RANGES:
            low, high = INTEGER_RANGES[kind]
            edges = (low, high, low - 1, high + 1)
            return lambda draw, depth: pick(draw, edges if draw() < 0.1 else NUMBERS)
        if kind == "any":
            return lambda draw, depth: anything(draw, 1) if draw() < 0.5 else pick(draw, (0, 1, True, "x", "uart", 4096))
        simple: dict[str, Make] = {
            "bool": lambda draw, depth: draw() < 0.5, "number": lambda draw, depth: draw(), "null": lambda draw, depth: None,
        }  # fmt: skip
        return simple.get(kind) or self._defined(kind, key)

    def _defined(self, kind: str, key: str) -> Make:
        definition = self._schema.get(kind)
        if definition["meta"] == "enum":
            values = [value["name"] for value in definition["members"] if holds(value.get("if"), self._facts)]
            if key == "preallocation":  # those that fill the disk
                values = [value for value in values if value not in ("falloc", "full")]
            return lambda draw, depth: pick(draw, values) if values and draw() < 0.95 else "nope"
        if definition["meta"] == "alternate":
            kinds = [branch["type"] for branch in definition["branches"]]
            return lambda draw, depth: self._maker(pick(draw, kinds), key)(draw, depth - 1)
        return self.object(kind).make


class _Object:
    """Makes objects of a type: members by chance, then those of the branch that the tag chooses."""

    def __init__(self, arguments: Arguments, name: str) -> None:
        self._arguments = arguments
        self._name = name
        self._tag, self._branches = arguments.branches(name)
        # Types may lead back to themselves: the members' makers are looked up at the first use.
        self._members: list[tuple[str, float, Make]] | None = None

    def make(self, draw: Draw, depth: int) -> dict[str, Any]:
        """One."""
        made: dict[str, Any] = {}
        if depth > 0:
            self.fill(draw, depth - 1, made)
        return made

    def fill(self, draw: Draw, depth: int, made: dict[str, Any]) -> None:
        """Put members into `made`."""
        members = self._members
        if members is None:
            members = self._members = self._arguments.members(self._name)
        for name, chance, make in members:
            if draw() < chance:
                made[name] = make(draw, depth)
        if self._tag and depth > 0:
            tag = made.get(self._tag)
            branch = self._branches.get(tag) if isinstance(tag, str) else None
            if branch is not None:
                self._arguments.object(branch).fill(draw, depth - 1, made)
        if draw() < 0.02:
            made[pick(draw, ("zz", "a", "id"))] = anything(draw, 1)


def _text(key: str) -> Make:
    words = WORDS.get(key, IDS)
    return lambda draw, depth: pick(draw, words if draw() < 0.85 else _ANY_TEXT)


_ANY_TEXT = (*IDS, *PATHS, *FILES, "\x7f\x00", "%n%s", "-1", "0x10")
