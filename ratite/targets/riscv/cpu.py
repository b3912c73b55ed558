"""RISC-V CPU types. Input lines after the bits of mip (Privileged ISA 1.12 §3.1.9).

    msip, mtip, meip, seip     levels
    ssip                       an edge: rising, it sets mip.SSIP, which the guest takes back (ACLINT 1.0-rc4, SSWI)

``time`` is the machine's virtual clock at `timebase-frequency` plus the hart's delta. The mtimer whose mtip drives the hart
tells it the delta of its mtime, and refuses to be wired to a hart of another frequency: so both show one time.

Extensions are properties, as QEMU has them. The models, types that differ in their defaults, are in models.py.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from ratite.core.cpu.base import Cpu
from ratite.core.objects.props import config
from ratite.core.owner import on_vcpu
from ratite.qapi.errors import GenericError
from ratite.targets.riscv.counters import NOTE_SSIP, NOTE_STIMECMP, SECOND
from ratite.targets.riscv.csrs import MEI, MSI, MTI, SEI, SSI, STI
from ratite.targets.riscv.fdt import describe
from ratite.targets.riscv.features import FLAGS, PRIV_SPECS, Features
from ratite.targets.riscv.image import fw_dynamic_info, read_head

if TYPE_CHECKING:
    from ratite.core.boot import Boot, RawKernel
    from ratite.core.clock import Timer
    from ratite.core.fdt import DeviceTree
    from ratite.core.irq import Input

_ONES = (1 << 64) - 1
_FAR = 1 << 62  # virtual ns: nothing is armed beyond (146 years)


def flag(name: str, default: bool) -> Any:
    """The property of an extension."""
    return config("bool", default, next(text for key, _, text in FLAGS if key == name))


class RiscvCpu(Cpu):
    """A RISC-V hart."""

    TYPE = "riscv-cpu"
    ABSTRACT = True
    ISA = "ratite.targets.riscv.isa:build"
    ELF_MACHINE = 243
    # user_regs_struct of Linux's asm/ptrace.h.
    CORE_REGISTERS = (
        "pc", "ra", "sp", "gp", "tp", "t0", "t1", "t2", "s0", "s1", "a0", "a1", "a2", "a3", "a4", "a5", "a6", "a7",
        "s2", "s3", "s4", "s5", "s6", "s7", "s8", "s9", "s10", "s11", "t3", "t4", "t5", "t6",
    )  # fmt: skip
    LINES = MappingProxyType({"msip": MSI, "mtip": MTI, "meip": MEI, "ssip": SSI, "seip": SEI})
    RESET_PC = 0x80000000
    # Firmware and kernels start every hart at their entry and sort them out themselves.
    FOLLOWS = True

    hartid = config("uint32", 0, "number of the hart, as mhartid tells it")
    timebase_frequency: int = config("uint32", 10_000_000, "frequency of time", unit="Hz", minimum=1)
    priv_spec: str = config("str", PRIV_SPECS[-1], "version of the privileged specification", values=PRIV_SPECS)
    m = flag("m", True)
    a = flag("a", True)
    f = flag("f", True)
    d = flag("d", True)
    c = flag("c", True)
    s = flag("s", True)
    u = flag("u", True)
    zicsr = flag("zicsr", True)
    zicntr = flag("zicntr", True)
    zifencei = flag("zifencei", True)
    zba = flag("zba", True)
    zbb = flag("zbb", True)
    zbs = flag("zbs", True)
    zicond = flag("zicond", False)
    zicbom = flag("zicbom", True)
    zicboz = flag("zicboz", True)
    mmu = flag("mmu", True)
    svinval = flag("svinval", False)
    svpbmt = flag("svpbmt", False)
    svnapot = flag("svnapot", False)
    sstc = flag("sstc", True)
    svade = flag("svade", False)
    svadu = flag("svadu", True)
    pmp = flag("pmp", True)

    @classmethod
    def expand_model(cls, given: Mapping[str, Any], word_size: int) -> dict[str, bool]:
        """As any CPU's; refuses extensions that can't be together."""
        features = super().expand_model(given, word_size)
        try:
            Features({**features, "word-size": word_size})
        except ValueError as exc:
            raise GenericError(str(exc)) from exc
        return features

    def isa_config(self) -> Mapping[str, object]:
        """Word size, extensions, frequency of time."""
        return {**super().isa_config(), **self._told()}

    def _told(self) -> dict[str, object]:
        told: dict[str, object] = {name: bool(getattr(self, name)) for name, _, _ in FLAGS if name in self.PROPERTIES}
        return {**told, "timebase-frequency": int(self.timebase_frequency), "priv-spec": self.priv_spec}

    def wire(self) -> None:
        """As any CPU's; refuses extensions that can't be together."""
        try:
            self._features = Features({**self._told(), "word-size": self.cluster.bits})
        except ValueError as exc:
            raise GenericError(f"'{self.path}': {exc}") from exc
        self._delta = 0
        self._stimer: Timer | None = None
        super().wire()

    def realize(self) -> None:
        """As any CPU's, with the hart's number."""
        super().realize()
        assert self.vcpu is not None, "realize() made it"
        self.vcpu.reset_values["mhartid"] = int(self.hartid)
        self.vcpu.reset_values["time_delta"] = self._delta
        if self._features.has("sstc"):
            self._stimer = self.timer(self._compare, "stimecmp-timer")

    def unrealize(self) -> None:
        """As any CPU's, without the timer."""
        if self._stimer is not None:
            self._stimer.cancel()
            self._stimer = None
        super().unrealize()

    def restart(self) -> None:
        """As any CPU's; nothing is pending that the hart made pending itself."""
        super().restart()
        if self._stimer is not None:
            self._stimer.cancel()
        self._line(STI, False)
        self._line(SSI, False)

    def post_load(self) -> None:
        """As any CPU's, with the time that stimecmp waits for."""
        super().post_load()
        self._compare()

    # -- booting (RISC-V boot requirements of OpenSBI and Linux) and the device tree

    def boot_kernel(self, path: str, head: bytes, size: int) -> RawKernel:
        """Linux's RISC-V Image."""
        return read_head(path, head, size, self.cluster.bits)

    def boot_args(self, boot: Boot) -> bytes:
        """What OpenSBI's fw_dynamic is told: the kernel, in supervisor mode, on this hart."""
        if not boot.cpu.firmware:
            return b""
        return fw_dynamic_info(boot.kernel_entry, int(boot.cpu.get_property("hartid")), self.cluster.bits)

    def boot_registers(self, boot: Boot) -> Mapping[tuple[str, int], int]:
        """a0: the hart's number, a1: device tree, a2: what fw_dynamic is told."""
        return {("x", 10): int(self.hartid), ("x", 11): boot.tree_at, ("x", 12): boot.args_at if boot.cpu.firmware else 0}

    def fdt_number(self) -> int:
        """Harts stand by their numbers."""
        return int(self.hartid)

    def fdt_node(self, tree: DeviceTree) -> None:
        """The hart and its interrupt controller."""
        describe(self, tree)

    def fdt_interrupt(self, end: Input) -> tuple[int, ...] | None:
        """Interrupts of a hart are written as their bits in mip; its lines reset and halt are none."""
        bit = self.LINES.get(end.name)
        return None if bit is None else (bit,)

    # -- lines

    def input_handler(self, name: str, index: int) -> Callable[[int], None]:
        """As any CPU's, but that ssip only ever sets."""
        deliver = super().input_handler(name, index)
        return deliver if name != "ssip" else lambda level: deliver(level) if level else None

    def _line(self, bit: int, level: bool) -> None:
        if self.vcpu is not None and self.thread is not None:
            self.vcpu.set_line(bit, level)
            self.thread.wake()

    # -- time

    def set_time_delta(self, delta: int) -> None:
        """``time`` is this many ticks more than the virtual clock has, modulo 2^64. Under the machine lock."""
        self._delta = delta
        if self.vcpu is not None:
            self.vcpu.reset_values["time_delta"] = delta
            self.vcpu.set("time_delta", delta)
            self._compare()

    def _compare(self) -> None:
        """Drives STI after stimecmp, and arms for when that will change; under the machine lock."""
        if self._stimer is not None and self.vcpu is not None:
            self._wait_for(self.vcpu.get("stimecmp"))

    def _wait_for(self, compare: int) -> None:
        assert self._stimer is not None, "asked for by a hart with Sstc"
        ticks = self.machine.clock.now() * self.timebase_frequency // SECOND
        time = ticks + self._delta & _ONES
        self._line(STI, time >= compare)
        left = (compare if time < compare else _ONES + 1) - time
        deadline = -(-(ticks + left) * SECOND // self.timebase_frequency)
        if deadline < _FAR:
            self._stimer.arm(deadline)
        else:
            self._stimer.cancel()

    @on_vcpu
    def on_notify(self, number: int, value: int) -> None:
        """stimecmp was written, or SSIP, which its line had set, was taken back."""
        with self.machine.lock:
            if number == NOTE_STIMECMP and self._stimer is not None:
                self._wait_for(value)
            elif number == NOTE_SSIP:
                self._line(SSI, False)
