"""Arguments for commands, made from the schema of a view: mostly of the right shape, and now and then of a wrong one."""

from __future__ import annotations

import random
from collections.abc import Sequence
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


def anything(rng: random.Random, depth: int) -> Any:
    """A JSON value of any shape."""
    roll = rng.randrange(10 if depth else 8)
    if roll == 8:
        return [anything(rng, depth - 1) for _ in range(rng.randrange(4))]
    if roll == 9:
        return {rng.choice(("a", "type", "data", "id", "\u2603")): anything(rng, depth - 1) for _ in range(rng.randrange(3))}
    if roll == 3:
        return rng.randrange(-(2**63), 2**64)
    if roll == 4:
        return rng.random() * 10 ** rng.randrange(-300, 300)
    if roll == 7:
        return "".join(
            chr(rng.choice((rng.randrange(128), rng.randrange(0xD7FF), rng.randrange(0x10000, 0x1FFFD))))
            for _ in range(rng.randrange(6))
        )
    if roll == 6:
        return rng.choice(("/", "/machine", "oob", "memory-backend-ram", "ns16550", "socket", "%s", "\x7f\x00"))
    return (None, True, False, 0, 0, "")[roll]


def _tame(made: Any) -> None:
    """What would wait for a peer that never comes, or fill the disk, isn't asked for."""
    if isinstance(made, list):
        for each in made:
            _tame(each)
    elif isinstance(made, dict):
        if made.get("wait"):
            made["wait"] = False
        if made.get("preallocation") in ("falloc", "full"):
            made["preallocation"] = "off"
        for each in made.values():
            _tame(each)


class Arguments:
    """For the commands of one view."""

    def __init__(self, view: View) -> None:
        self._facts = view.facts
        self._schema = view.tables.schema
        self._commands = view.tables.commands
        self.names = sorted(self._commands)
        self._members: dict[str, list[tuple[str, str, bool]]] = {}

    def make(self, rng: random.Random, name: str) -> dict[str, Any]:
        """Arguments of a command; of one that isn't there, whatever comes."""
        command = self._commands.get(name)
        if command is None or rng.random() < 0.03:
            return {rng.choice(("path", "id", "x")): anything(rng, 2)}
        if command.arg_type is None:
            return {} if rng.random() < 0.9 else {"x": 1}
        made = self._object(rng, command.arg_type, 4)
        _tame(made)
        if not command.gen:  # device_add: properties that the schema doesn't know
            made.update({key: self._text(rng, key) for key in ("chardev", "cluster", "drive") if rng.random() < 0.3})
        return made

    def _object(self, rng: random.Random, name: str, depth: int) -> dict[str, Any]:
        definition = self._schema.get(name)
        made: dict[str, Any] = {}
        for key, kind, optional in self._all(name):
            if rng.random() < (0.3 if optional else 0.97):
                made[key] = self._value(rng, kind, key, depth)
        if definition["meta"] == "union" and depth > 0:
            tag = made.get(definition["discriminator"])
            branch = next((b["type"] for b in definition["branches"] if b["name"] == tag), None)
            if branch is not None and branch != "q_empty":
                made.update(self._object(rng, branch, depth - 1))
        if rng.random() < 0.02:
            made[rng.choice(("zz", "a", "id"))] = anything(rng, 1)
        return made

    def _all(self, name: str) -> list[tuple[str, str, bool]]:
        """(name, type, optional) of an object type's members that this view has."""
        found = self._members.get(name)
        if found is None:
            found = self._members[name] = [
                (member["name"], member["type"], member.get("optional", False))
                for member in self._schema.members(name)
                if holds(member.get("if"), self._facts)
            ]
        return found

    def _value(self, rng: random.Random, kind: str, key: str, depth: int) -> Any:
        if rng.random() < 0.03:
            return anything(rng, 2)
        element = element_type(kind)
        if element is not None:
            return [self._value(rng, element, key, depth - 1) for _ in range(rng.choice((0, 1, 1, 2, 5)) if depth > 0 else 0)]
        if kind == "str":
            return self._text(rng, key)
        if kind == "bool":
            return rng.random() < 0.5
        if kind in INTEGER_RANGES:
            low, high = INTEGER_RANGES[kind]
            return rng.choice((low, high, low - 1, high + 1)) if rng.random() < 0.1 else rng.choice(NUMBERS)
        if kind == "any":
            return anything(rng, 1) if rng.random() < 0.5 else rng.choice((0, 1, True, "x", "uart", 4096))
        if kind in ("number", "null"):
            return rng.random() if kind == "number" else None
        definition = self._schema.get(kind)
        if definition["meta"] == "enum":
            values = [value["name"] for value in definition["members"] if holds(value.get("if"), self._facts)]
            return rng.choice(values) if values and rng.random() < 0.95 else "nope"
        if definition["meta"] == "alternate":
            return self._value(rng, rng.choice(definition["branches"])["type"], key, depth - 1)
        return self._object(rng, kind, depth - 1) if depth > 0 else {}

    @staticmethod
    def _text(rng: random.Random, key: str) -> str:
        if rng.random() < 0.85:
            return rng.choice(WORDS.get(key, IDS))
        return rng.choice((*IDS, *PATHS, *FILES, "\x7f\x00", "%n%s", "-1", "0x10"))
