"""What the tests of machines share: types of a tiny world, and a machine made of them."""

from __future__ import annotations

import struct
import threading
from concurrent.futures import Future
from difflib import unified_diff
from pathlib import Path
from typing import Any, ClassVar

from ratite.core.clock import VirtualClock
from ratite.core.cpu.base import Cpu
from ratite.core.device import MmioDevice, Window
from ratite.core.machine import Machine
from ratite.core.objects.props import config, link, state, tunable
from ratite.core.objects.registry import TypeRegistry
from ratite.core.regs import Reg
from ratite.qapi.errors import GenericError, QmpError

MACHINE = 0x1234  # e_machine of the fake CPU


class Widget(MmioDevice):
    """A device for tests."""

    TYPE = "widget"
    REGIONS: ClassVar = {"regs": Window(0x100)}
    INPUTS: ClassVar = {"in": 4}
    OUTPUTS: ClassVar = {"irq": 1, "reset": 1, "halt": 1}
    speed = config("uint32", 5, "a number", maximum=100)
    gain = tunable("uint8", 1, "another")
    other = link("widget", "a peer", optional=True)
    fails = config("str", "", "the hook that is to fail")
    seen = state("list:uint8", text="levels of input 0")
    CTRL = Reg(0x0, fields={"irq": 0}, reset=0)
    POWER = Reg(0x4)
    ODD = Reg(0x8)

    @CTRL.on_write
    def _ctrl(self, value: int, old: int) -> None:
        self.out("irq").set(value & 1)
        self.out("reset").set(value & 2)
        self.out("halt").set(value & 4)

    @POWER.on_write
    def _power(self, value: int, old: int) -> None:
        if value == 1:
            self.machine.request_shutdown()
        else:
            self.machine.request_reset()

    def wire(self) -> None:
        super().wire()
        self._fail("wire")

    def realize(self) -> None:
        self._fail("realize")

    def _fail(self, hook: str) -> None:
        if self.fails == hook:
            raise GenericError(f"{hook} failed")
        if self.fails == f"{hook}-bug":
            raise KeyError(hook)

    def on_input(self, name: str, index: int, level: int) -> None:
        self.seen.append(level)

    def reset(self) -> None:
        super().reset()
        self.out("irq").set(0)
        self.seen = []


class FixedWidget(Widget):
    """A device that can't be plugged while the machine is ready."""

    TYPE = "fixed-widget"
    HOTPLUG = False


class FakeCpu(Cpu):
    """A CPU for tests."""

    TYPE = "fake-cpu"
    TARGETS = ("fake64", "fakebe")
    ELF_MACHINE = MACHINE
    LINES: ClassVar = {"irq": 3}
    RESET_PC = 0x100
    program: Any = None


class OtherCpu(FakeCpu):
    """A CPU of another target."""

    TYPE = "other-cpu"
    TARGETS = ("other32",)


def registry(**kwargs: Any) -> TypeRegistry:
    """The core's types and those above."""
    kwargs.setdefault("plugins", False)
    made = TypeRegistry(**kwargs)
    for cls in (Widget, FixedWidget, FakeCpu, OtherCpu):
        made.register(cls)
    for name, bits, big in (("fake64", 64, False), ("fakebe", 64, True), ("other32", 32, False)):
        made.add_target({"name": name, "word-size": bits, "big-endian": big, "default-cpu": "fake-cpu"})
    made.accelerators()
    for name in list(made._accelerators):
        del made._accelerators[name]
    made.add_accelerator({"name": "none", "module": "core_fake_accel:NoAccelerator", "text": ""})
    made.add_accelerator({"name": "fake", "module": "core_fake_accel:FakeAccelerator", "text": ""})
    return made


class Bench:
    """A machine, its events, and calls on its owner thread."""

    def __init__(self, **kwargs: Any) -> None:
        kwargs.setdefault("autostart", False)
        self.machine = Machine(registry(), "test", **kwargs)
        self.events: list[tuple[str, dict[str, Any]]] = []
        self.changed = threading.Condition()
        self.machine.on_event = self._event

    def _event(self, name: str, data: dict[str, Any]) -> None:
        with self.changed:
            self.events.append((name, data))
            self.changed.notify_all()

    def wait_event(self, name: str) -> dict[str, Any]:
        """The data of the first event of this name; waits for it."""
        with self.changed:
            assert self.changed.wait_for(lambda: any(n == name for n, _ in self.events), 20), self.events
            return next(data for n, data in self.events if n == name)

    def names(self) -> list[str]:
        """The names of the events so far."""
        return [name for name, _ in self.events]

    def call(self, fn: Any, *args: Any) -> Any:
        """Do it on the owner thread and give its result."""
        done: Future[Any] = self.machine.owner.post(fn, *args)
        return done.result(30)

    def __getattr__(self, name: str) -> Any:
        method = getattr(self.machine, name)
        return lambda *args: self.call(method, *args)

    def error(self, name: str, *args: Any) -> str:
        """The text of the refusal; the tree must be as before."""
        before = self.call(self.machine.tree_dump)
        try:
            getattr(self, name)(*args)
        except QmpError as exc:
            text = exc.desc
        else:
            raise AssertionError("no refusal")
        after = self.call(self.machine.tree_dump)
        assert after == before, "\n".join(unified_diff(before.splitlines(), after.splitlines(), lineterm=""))
        return text

    def error_class(self, name: str, *args: Any) -> tuple[str, str]:
        """Class and text of the refusal."""
        try:
            getattr(self, name)(*args)
        except QmpError as exc:
            return exc.error_class, exc.desc
        raise AssertionError("no refusal")

    def cpu(self, id: str = "cpu0") -> Any:
        """The CPU with this id."""
        return self.machine.resolve(id)

    def basic(self, **cpu: Any) -> None:
        """A cluster with one CPU, 64 KiB of RAM at 0, a widget at 0x100000 whose lines go to the CPU."""
        self.create_object("address-space", "mem", {})
        self.create_object("memory-backend-ram", "ram0", {"size": 0x10000})
        self.create_object("cpu-cluster", "cl", {"target": "fake64", "address-space": "mem"})
        self.device_add("fake-cpu", "cpu0", {"cluster": "cl", **cpu})
        self.device_add("widget", "w0", {})
        self.map_region("mem", "ram0", 0)
        self.map_region("mem", "w0", 0x100000)
        self.wire_irq("w0", "irq", "cpu0", "irq")
        self.wire_irq("w0", "reset", "cpu0", "reset")
        self.wire_irq("w0", "halt", "cpu0", "halt")


def device_machine() -> Machine:
    """A machine without an owner thread and with a clock moved by hand."""
    return Machine(registry(), "test", autostart=False, clock=VirtualClock(manual=True), inline=True)


def elf(
    path: Path, segments: list[tuple[int, bytes, int]], *, bits: int = 64, big: bool = False, machine: int = MACHINE,
    entry: int = 0x200,
) -> str:
    """Write an ELF with PT_LOADs (paddr, bytes, memsz); gives the path."""
    end = ">" if big else "<"
    ehsize, phsize = (64, 56) if bits == 64 else (52, 32)
    ident = b"\x7fELF" + bytes([2 if bits == 64 else 1, 2 if big else 1, 1]) + bytes(9)
    word = "Q" if bits == 64 else "I"
    head = struct.pack(
        f"{end}HHI{word}{word}{word}IHHHHHH", 2, machine, 1, entry, ehsize, 0, 0, ehsize, phsize, len(segments), 0, 0, 0
    )
    offset = ehsize + phsize * len(segments)
    table, body = b"", b""
    for paddr, data, memsz in segments:
        at = offset + len(body)
        if bits == 64:
            table += struct.pack(f"{end}IIQQQQQQ", 1, 7, at, paddr, paddr, len(data), memsz, 1)
        else:
            table += struct.pack(f"{end}IIIIIIII", 1, at, paddr, paddr, len(data), memsz, 7, 1)
        body += data
    path.write_bytes(ident + head + table + body)
    return str(path)
