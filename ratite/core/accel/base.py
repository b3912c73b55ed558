"""What a CPU cluster asks of an accelerator: make vCPUs, run them, kick them, look into them.

An accelerator is an entry point of the group ``ratite.accelerators``; its module is imported when a cluster asks for it
or when the inventory is asked whether it works here. It knows CPUs through ``CpuPort`` alone, so that an engine can be
tested with a memory and nothing else.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from ratite.core.isa.isa import Isa
    from ratite.core.isa.state import StateField
    from ratite.core.memory.code import CodeMarks


# (physical address, encoding, text) of an instruction.
Decoded = tuple[int, bytes, str]


class Exit:
    """Why ``Vcpu.run`` came back: ``kind`` is one of KINDS; ``detail`` is a short text for people."""

    HALT = "halt"  # the guest sleeps until an interrupt (WFI and the like)
    KICKED = "kicked"  # somebody asked for it
    PANIC = "panic"  # the trap handler's first instruction can't be fetched
    BUDGET = "budget"  # the instruction budget of a step is used up, or what a guest runs behind IDLE is not so short
    IDLE = "idle"  # the guest polls memory, and nothing happens until somebody else does something
    KINDS = (HALT, KICKED, PANIC, BUDGET, IDLE)

    __slots__ = ("detail", "kind")

    def __init__(self, kind: str, detail: str = "") -> None:
        self.kind = kind
        self.detail = detail

    def __repr__(self) -> str:
        return f"Exit({self.kind!r}, {self.detail!r})"


class RamBlock(Protocol):
    """The piece of RAM behind a range; see ``core.memory``."""

    code: CodeMarks


class RamRange:
    """One run of directly accessible guest memory in a CPU's view."""

    __slots__ = ("host", "offset", "ram", "readonly", "size", "start")

    def __init__(self, start: int, size: int, host: int, ram: RamBlock, offset: int, readonly: bool) -> None:
        self.start = start  # guest physical address
        self.size = size  # bytes
        self.host = host  # host address of the first byte
        self.ram = ram  # the block that owns it
        self.offset = offset  # of the first byte within the block
        self.readonly = readonly


class CpuPort(Protocol):
    """The side of a CPU object that an accelerator sees."""

    ISA: str  # "module:function" that builds the ISA description from ``isa_config``

    def isa_config(self) -> Mapping[str, object]:
        """What the ISA description depends on: word size, byte order, extensions. Values are str, int or bool."""

    def ram_ranges(self) -> Sequence[RamRange]:
        """Directly accessible memory of the CPU's view, sorted by start, not overlapping."""

    def mmio_load(self, addr: int, size: int) -> int:
        """One bus read of 1, 2, 4 or 8 bytes, as the CPU's byte order sees it; raises BusError. Takes the machine's lock."""

    def mmio_store(self, addr: int, size: int, value: int) -> None:
        """One bus write; raises BusError. Takes the machine's lock."""

    def load_site(self, addr: int, size: int) -> Callable[[], int] | None:
        """A function that does ``mmio_load(addr, size)`` now and at any later time, quicker; None where there is none."""

    def store_site(self, addr: int, size: int) -> Callable[[int], None] | None:
        """The same for ``mmio_store``; the function takes the value, of 64 bits with anything in those beyond ``size``."""

    def clock_ns(self) -> int:
        """Nanoseconds of the machine's virtual clock."""

    def clock_offset(self) -> int | None:
        """What the host's monotonic clock is ahead of the virtual one, while the machine runs; None: not made from it."""

    def on_notify(self, number: int, value: int) -> None:
        """The guest set one of the CPU's compare registers (``Emitter.notify``). Takes the machine's lock."""

    def on_ask(self, number: int, value: int) -> int:
        """The guest asks for something that only the CPU object has (``Emitter.ask``); 64 bits. Takes the machine's lock."""


class Vcpu(ABC):
    """One virtual CPU. ``run`` belongs to the vCPU's thread; ``kick`` and ``set_line`` may be called on any thread; the
    rest only while the vCPU is parked.

    ``reset_values``: fields, or (field, element), that this CPU resets to another value than the ISA's declaration says (a
    hart's number, what firmware is told).  ``isa``: the description that it was made from, where it was."""

    isa: Isa | None = None

    def __init__(self) -> None:
        self.reset_values: dict[str | tuple[str, int], int] = {}

    def set_reset_values(self) -> None:
        """Part of ``reset``."""
        for key, value in self.reset_values.items():
            name, index = (key, 0) if isinstance(key, str) else key
            self.set(name, value, index)

    @abstractmethod
    def run(self) -> Exit:
        """Runs guest code until an exit. The GIL is free meanwhile where the accelerator can."""

    @abstractmethod
    def step(self, count: int = 1) -> Exit:
        """Runs up to ``count`` instructions (traps taken count as one) and comes back with BUDGET, or earlier."""

    @abstractmethod
    def kick(self) -> None:
        """Makes ``run`` return KICKED soon (the next taken backward branch or jump at the latest)."""

    @abstractmethod
    def set_line(self, bit: int, level: bool) -> None:
        """Input line ``bit`` of the CPU changes; the machine's lock is held by the caller."""

    @abstractmethod
    def has_work(self) -> bool:
        """Whether a halted CPU should wake: the ISA's own predicate over lines and registers."""

    def undisturbed(self) -> bool:
        """Whether nothing was asked of the CPU since ``run`` came back with IDLE: no kick, no line. Any thread."""
        return False

    @property
    def dozing(self) -> bool:
        """Whether the guest has just come back with IDLE, and has had next to nothing to do lately; on the vCPU's thread."""
        return False

    @abstractmethod
    def fields(self) -> Iterable[StateField]:
        """The architectural state, declared by the ISA."""

    @abstractmethod
    def get(self, name: str, index: int = 0) -> int:
        """Value of a state field (unsigned); KeyError for a name that isn't there."""

    @abstractmethod
    def set(self, name: str, value: int, index: int = 0) -> None:
        """Sets a state field; the value is masked to its width."""

    @abstractmethod
    def reset(self, pc: int) -> None:
        """Architectural reset; execution will start at ``pc``. Input lines keep their level."""

    @abstractmethod
    def invalidate(self, ram: RamBlock, offset: int, size: int) -> None:
        """Bytes of ``ram`` changed behind the vCPU's back: drop what was made from them. Any thread."""

    @abstractmethod
    def remap(self) -> None:
        """The CPU's view of memory changed."""

    @abstractmethod
    def flush_tlb(self) -> None:
        """Forgets every cached address translation."""

    @property
    @abstractmethod
    def instructions(self) -> int:
        """Instructions executed since creation, exact whenever the vCPU is parked. Any thread."""

    @property
    def compiled_instructions(self) -> int:
        """Those of them that were executed in compiled pieces of code."""
        return 0

    def watch_code(self, tell: Callable[[list[Decoded]], None] | None) -> bool:
        """Have ``tell`` called, on the vCPU's thread, with instructions that are decoded for the first time from now on;
        None: no more. Whether this accelerator can."""
        return False

    @abstractmethod
    def disassemble(self, addr: int, code: bytes) -> list[tuple[int, bytes, str]]:
        """(address, encoding, text) of each instruction in ``code``, which starts at ``addr``."""

    @abstractmethod
    def close(self) -> None:
        """Frees host memory. The vCPU must not be used afterwards."""


class Accelerator(ABC):
    """A way to execute guest code: one object a cluster. ``code_size``: bytes of compiled code that it may keep; the cluster
    sets it before there are vCPUs."""

    NAME: str
    code_size: int = 64 << 20

    @classmethod
    @abstractmethod
    def probe(cls) -> str | None:
        """Why it can't be used on this host, or None. Cheap, imports nothing heavy, never raises."""

    def compiled(self) -> dict[str, Any] | None:
        """What it compiled for its CPUs, as JitInfo has it (without cluster and CPUs); None: it does not compile."""
        return None

    @abstractmethod
    def create_vcpu(self, cpu: CpuPort, index: int) -> Vcpu:
        """Makes a vCPU for ``cpu``; raises QmpError with a reason that a client can act on."""
