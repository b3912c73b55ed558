"""A driver in Python for virtio devices behind virtio-mmio, in a machine without CPUs."""

from __future__ import annotations

import struct
from importlib import import_module
from typing import Any

from ratite.core.backends import TYPES as BACKEND_TYPES
from ratite.core.clock import VirtualClock
from ratite.core.machine import Machine
from ratite.core.memory import TYPES as MEMORY_TYPES
from ratite.core.memory import Access
from ratite.core.objects.registry import TypeRegistry
from ratite.hw import TYPES as HW_TYPES

RAM, RAM_SIZE, MMIO = 0x80000000, 1 << 20, 0x10001000
LITTLE = Access()
NEXT, WRITE, INDIRECT = 1, 2, 4
F_INDIRECT, F_EVENT_IDX, F_VERSION_1, F_PACKED = 1 << 28, 1 << 29, 1 << 32, 1 << 34
AVAIL_FLAG, USED_FLAG = 1 << 7, 1 << 15
USED, CONFIG = 1, 2


def registry() -> TypeRegistry:
    made = TypeRegistry(manifest={"types": {}, "targets": {}, "accelerators": {}}, plugins=False)
    for path in (*MEMORY_TYPES, *HW_TYPES, *BACKEND_TYPES):
        module, _, name = path.partition(":")
        made.register(getattr(import_module(module), name))
    return made


def new_machine(inline: bool = True) -> Machine:
    clock = VirtualClock(manual=True) if inline else None
    return Machine(registry(), "test", autostart=False, clock=clock, inline=inline)


class Board:
    """RAM, one virtio-mmio transport and one device; registers by `reg` and `set`."""

    def __init__(self, driver: str, inline: bool = True, machine: Machine | None = None, **props: Any) -> None:
        self.machine = m = machine or new_machine(inline)
        self.events: list[tuple[str, dict[str, Any]]] = []
        m.on_event = lambda name, data: self.events.append((name, data))
        self.call(m.create_object, "address-space", "mem", {})
        self.call(m.create_object, "memory-backend-ram", "ram", {"size": RAM_SIZE})
        self.call(m.map_region, "mem", "ram", RAM)
        self.call(m.device_add, "virtio-mmio", "vm0", {})
        self.call(m.map_region, "mem", "vm0", MMIO)
        self.call(m.device_add, driver, "dev", props)

    def start(self) -> Board:
        self.call(self.machine.exit_preconfig)
        self.space: Any = self.machine.resolve("/objects/mem")
        self.dev: Any = self.machine.resolve("/machine/peripheral/dev")
        self.mmio: Any = self.machine.resolve("/machine/peripheral/vm0")
        self.queues: dict[int, Ring] = {}
        self.top = RAM
        return self

    def call(self, fn: Any, *args: Any) -> Any:
        return self.machine.owner.call(fn, *args)

    def reg(self, offset: int, size: int = 4) -> int:
        with self.machine.lock:
            value: int = self.space.load(MMIO + offset, size, LITTLE)
        return value

    def set(self, offset: int, value: int, size: int = 4) -> None:
        with self.machine.lock:
            self.space.store(MMIO + offset, size, value, LITTLE)

    def config(self, offset: int, size: int) -> int:
        return self.reg(0x100 + offset, size)

    def read(self, addr: int, size: int) -> bytes:
        with self.machine.lock:
            data: bytes = self.space.read(addr, size)
        return data

    def write(self, addr: int, data: bytes) -> None:
        with self.machine.lock:
            self.space.write(addr, data)

    def alloc(self, size: int, align: int = 16) -> int:
        at = (self.top + align - 1) & -align
        self.top = at + size
        assert self.top <= RAM + RAM_SIZE
        return at

    def irq(self) -> int:
        level: int = self.mmio.out("irq").level
        return level

    def features(self) -> int:
        value = 0
        for half in (0, 1):
            self.set(0x14, half)
            value |= self.reg(0x10) << 32 * half
        return value

    def negotiate(self, want: int | None = None) -> int:
        """Reset, ACKNOWLEDGE, DRIVER, features, FEATURES_OK; gives the status read back."""
        self.set(0x70, 0)
        self.queues = {}
        self.set(0x70, 1)
        self.set(0x70, 3)
        accepted = self.features() if want is None else want
        for half in (0, 1):
            self.set(0x24, half)
            self.set(0x20, accepted >> 32 * half & 0xFFFFFFFF)
        self.accepted = accepted
        self.set(0x70, 11)
        return self.reg(0x70)

    def setup(self, queue: int, num: int = 8) -> Any:
        """A queue with fresh rings, enabled."""
        ring: Any = (PackedRing if self.accepted & F_PACKED else Ring)(self, queue, num)
        self.set(0x30, queue)
        self.set(0x38, num)
        for offset, addr in ((0x80, ring.desc), (0x90, ring.avail), (0xA0, ring.used)):
            self.set(offset, addr & 0xFFFFFFFF)
            self.set(offset + 4, addr >> 32)
        self.set(0x44, 1)
        self.queues[queue] = ring
        return ring

    def driver_ok(self) -> None:
        self.set(0x70, 15)

    def up(self, queues: int = 1, want: int | None = None, num: int = 8) -> Board:
        """The whole way to DRIVER_OK."""
        assert self.negotiate(want) == 11
        for queue in range(queues):
            self.setup(queue, num)
        self.driver_ok()
        assert self.reg(0x70) == 15
        return self

    def needs_reset(self) -> bool:
        return bool(self.reg(0x70) & 0x40)

    def ack(self) -> int:
        """Reads and acknowledges the interrupt."""
        cause = self.reg(0x60)
        self.set(0x64, cause)
        return cause

    def faults(self) -> int:
        """Exceptions that came out of register hooks."""
        return sum(region.faults.total for region in self.mmio.regions.values())


class Ring:
    """A split virtqueue, the driver's side."""

    def __init__(self, board: Board, index: int, num: int) -> None:
        self.board = board
        self.index = index
        self.num = num
        self.desc = board.alloc(16 * num)
        self.avail = board.alloc(6 + 2 * num, 2)
        self.used = board.alloc(6 + 8 * num, 4)
        for addr, size in ((self.desc, 16 * num), (self.avail, 6 + 2 * num), (self.used, 6 + 8 * num)):
            board.write(addr, bytes(size))
        self.avail_idx = self.seen = 0
        self.free = list(range(num))

    def describe(self, at: int, addr: int, size: int, flags: int = 0, following: int = 0) -> None:
        self.board.write(self.desc + 16 * at, struct.pack("<QIHH", addr, size, flags, following))

    def chain(self, *parts: tuple[int, int, bool]) -> int:
        """Descriptors (address, bytes, whether the device writes); gives the head."""
        slots = [self.free.pop(0) for _ in parts]
        for n, (addr, size, write) in enumerate(parts):
            last = n == len(parts) - 1
            flags = (WRITE if write else 0) | (0 if last else NEXT)
            self.describe(slots[n], addr, size, flags, 0 if last else slots[n + 1])
        return slots[0]

    def indirect(self, *parts: tuple[int, int, bool]) -> int:
        """The same in an indirect table."""
        table = self.board.alloc(16 * len(parts))
        for n, (addr, size, write) in enumerate(parts):
            last = n == len(parts) - 1
            flags = (WRITE if write else 0) | (0 if last else NEXT)
            self.board.write(table + 16 * n, struct.pack("<QIHH", addr, size, flags, 0 if last else n + 1))
        head = self.free.pop(0)
        self.describe(head, table, 16 * len(parts), INDIRECT)
        return head

    def offer(self, head: int, kick: bool = True) -> None:
        self.board.write(self.avail + 4 + 2 * (self.avail_idx % self.num), struct.pack("<H", head))
        self.avail_idx = self.avail_idx + 1 & 0xFFFF
        self.board.write(self.avail + 2, struct.pack("<H", self.avail_idx))
        if kick:
            self.kick()

    def kick(self) -> None:
        self.board.set(0x50, self.index)

    def used_idx(self) -> int:
        return int.from_bytes(self.board.read(self.used + 2, 2), "little")

    def taken(self) -> list[tuple[int, int]]:
        """(head, bytes written) of what was used since the last call."""
        found = []
        while self.seen != self.used_idx():
            found.append(struct.unpack("<II", self.board.read(self.used + 4 + 8 * (self.seen % self.num), 8)))
            self.seen = self.seen + 1 & 0xFFFF
        return found

    def send(self, *parts: tuple[int, int, bool], indirect: bool = False) -> int:
        """One chain offered and kicked; gives its head."""
        head = (self.indirect if indirect else self.chain)(*parts)
        self.offer(head)
        return head


class PackedRing:
    """A packed virtqueue, the driver's side: the same names. `avail` and `used` are the driver's and the device's event
    suppression."""

    def __init__(self, board: Board, index: int, num: int) -> None:
        self.board = board
        self.index = index
        self.num = num
        self.desc = board.alloc(16 * num)
        self.avail = board.alloc(4, 4)
        self.used = board.alloc(4, 4)
        for addr, size in ((self.desc, 16 * num), (self.avail, 4), (self.used, 4)):
            board.write(addr, bytes(size))
        self.next, self.wrap = 0, True
        self.seen, self.seen_wrap = 0, True
        self.sizes: dict[int, int] = {}  # descriptors by id
        self.free = list(range(num))

    def put(self, addr: int, size: int, flags: int, id: int) -> None:
        """One descriptor at the next place, available."""
        flags |= AVAIL_FLAG if self.wrap else USED_FLAG
        place = self.desc + 16 * self.next
        self.board.write(place, struct.pack("<QIH", addr, size, id))
        self.board.write(place + 14, struct.pack("<H", flags))
        self.next += 1
        if self.next == self.num:
            self.next, self.wrap = 0, not self.wrap

    def chain(self, *parts: tuple[int, int, bool]) -> int:
        """Written backwards would be right for a device that looks meanwhile; it looks at kicks."""
        id = self.free.pop(0)
        self.sizes[id] = len(parts)
        for n, (addr, size, write) in enumerate(parts):
            self.put(addr, size, (WRITE if write else 0) | (NEXT if n < len(parts) - 1 else 0), id)
        return id

    def indirect(self, *parts: tuple[int, int, bool]) -> int:
        table = self.board.alloc(16 * len(parts))
        for n, (addr, size, write) in enumerate(parts):
            self.board.write(table + 16 * n, struct.pack("<QIHH", addr, size, 0xFFFF, WRITE if write else 0))
        id = self.free.pop(0)
        self.sizes[id] = 1
        self.put(table, 16 * len(parts), INDIRECT, id)
        return id

    def offer(self, head: int, kick: bool = True) -> None:
        """It is available since it was written."""
        if kick:
            self.kick()

    def kick(self) -> None:
        self.board.set(0x50, self.index)

    def taken(self) -> list[tuple[int, int]]:
        found = []
        while True:
            _, written, id, flags = struct.unpack("<QIHH", self.board.read(self.desc + 16 * self.seen, 16))
            if bool(flags & AVAIL_FLAG) != bool(flags & USED_FLAG) or bool(flags & USED_FLAG) != self.seen_wrap:
                return found
            found.append((id, written))
            self.seen += self.sizes.pop(id)
            if self.seen >= self.num:
                self.seen, self.seen_wrap = self.seen - self.num, not self.seen_wrap

    def send(self, *parts: tuple[int, int, bool], indirect: bool = False) -> int:
        id = (self.indirect if indirect else self.chain)(*parts)
        self.offer(id)
        return id
