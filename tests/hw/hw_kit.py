"""A bench for one device: no machine, no CPU, virtual time."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from ratite.core.clock import VirtualClock
from ratite.core.memory import Access, Space
from ratite.core.memory.sites import LoadSite, StoreSite, load_site, store_site
from ratite.core.objects.obj import Obj

MS = 1_000_000


class BenchMachine:
    """What a device sees of a machine."""

    def __init__(self) -> None:
        self.clock = VirtualClock(manual=True)
        self.clock.start()
        self.lock = threading.RLock()
        self.asked: list[tuple[object, ...]] = []
        self.on_resume: list[Callable[[], None]] = []
        self.tree = self

    def members(self) -> tuple[Obj, ...]:
        """There is only the device."""
        return ()

    def emit(self, name: str, **data: object) -> None:
        self.asked.append((name, data))

    def request_shutdown(self, cause: str, exit_code: int) -> None:
        self.asked.append(("shutdown", cause, exit_code))

    def request_reset(self, reason: str) -> None:
        self.asked.append(("reset", reason))


class Line:
    """A chardev as a device sees it: `sent` collects, `room` limits."""

    def __init__(self) -> None:
        self.sent = b""
        self.room = 1 << 30
        self.waiting = b""
        self.frontend: Any = None

    def attach(self, frontend: Any) -> None:
        self.frontend = frontend
        frontend.line = self

    def detach(self) -> None:
        self.frontend = None

    def set_open(self, opened: bool) -> None:
        self.open = opened

    def write(self, data: bytes) -> int:
        taken = min(len(data), self.room)
        self.room -= taken
        self.sent += data[:taken]
        return taken

    def accept_input(self) -> None:
        while self.waiting and (room := self.frontend.chr_can_receive()) > 0:
            data, self.waiting = self.waiting[:room], self.waiting[room:]
            self.frontend.chr_receive(data)

    def feed(self, data: bytes) -> None:
        self.waiting += data
        self.accept_input()

    def drain(self) -> None:
        self.room = 1 << 30
        self.frontend.chr_writable()


class Bench:
    """One device, wired and realized, its windows mapped 64 KiB apart in order; `rd`/`wr` go through the bus, with `sites` as
    a CPU's accesses do that are made again and again."""

    def __init__(
        self, cls: type[Obj], machine: BenchMachine | None = None, big: bool = False, sites: bool = False, **props: Any
    ) -> None:
        self.machine = machine or BenchMachine()
        self.dev: Any = cls("dev")
        self.dev.machine = self.machine
        self.dev.configure({name.replace("_", "-"): value for name, value in props.items()})
        self.line = Line()
        if self.dev.find_prop("chardev"):
            self.dev.chardev = self.dev.line = self.line
        self.dev.wire()
        self.space = Space()
        for n, name in enumerate(getattr(self.dev, "regions", {})):
            self.space.map(self.dev.region(name), n << 16)
        self.dev.realize()
        self.dev.reset()
        for end in self.dev.all_inputs():
            end.enable()
        self.access = Access(big=big)
        self.sites = sites
        self.load_sites: dict[tuple[int, int], LoadSite | None] = {}
        self.store_sites: dict[tuple[int, int], StoreSite | None] = {}

    def rd(self, addr: int, size: int = 4) -> int:
        if self.sites and (addr, size) not in self.load_sites:
            self.load_sites[addr, size] = load_site(self.space, addr, size, self.access, self.machine.lock)
        site = self.load_sites.get((addr, size))
        return self.space.load(addr, size, self.access) if site is None else site()

    def wr(self, addr: int, value: int, size: int = 4) -> None:
        if self.sites and (addr, size) not in self.store_sites:
            self.store_sites[addr, size] = store_site(self.space, addr, size, self.access, self.machine.lock)
        site = self.store_sites.get((addr, size))
        if site is None:
            self.space.store(addr, size, value, self.access)
        else:
            site(value)

    def irq(self, name: str = "irq") -> int:
        level: int = self.dev.out(name).level
        return level

    def drive(self, name: str, level: int) -> None:
        self.dev.inp(name).deliver(level)

    def pass_ns(self, ns: int) -> None:
        self.machine.clock.advance(ns)

    def faults(self) -> int:
        return sum(region.faults.total for region in getattr(self.dev, "regions", {}).values())
