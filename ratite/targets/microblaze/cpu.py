"""The MicroBlaze CPU type. Configuration after UG984, chapter 3, "MicroBlaze Core Configurability"; signals after chapter 3,
"MicroBlaze Interfaces and Signals"."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING

from ratite.core.cpu.base import Cpu
from ratite.core.objects.props import config
from ratite.core.owner import on_vcpu
from ratite.core.stream import MASTER, SLAVE, STREAM_END, StreamEnd
from ratite.targets.microblaze.config import DEFAULTS
from ratite.targets.microblaze.fdt import describe
from ratite.targets.microblaze.stream import (
    ANSWER_LAST,
    ANSWER_VALID,
    ASK_GET,
    CONTROL_SHIFT,
    LINE_GET,
    LINE_PUT,
    LINK_SHIFT,
    TEST_SHIFT,
)

if TYPE_CHECKING:
    from ratite.core.boot import Boot
    from ratite.core.fdt import DeviceTree


class MicroblazeCpu(StreamEnd, Cpu):
    """A MicroBlaze, of its cluster's byte order: integer set, exceptions, interrupts, MMU, FPU, streams."""

    TYPE = "microblaze-cpu"
    IMPLEMENTS = (STREAM_END,)
    TARGETS = ("microblaze", "microblazeel")
    ISA = "ratite.targets.microblaze.isa:build"
    ELF_MACHINE = 189
    # pt_regs of Linux's asm/ptrace.h; the last is the kernel's own.
    CORE_REGISTERS = (*(f"r{n}" for n in range(32)), "pc", "msr", "ear", "esr", "fsr", "")
    LINES = MappingProxyType({"irq": 0, "break": 1, "nm-break": 2, "wakeup": 3})

    version = config("str", DEFAULTS["version"], "release of the core, as PVR0 tells it")
    base_vectors = config("uint32", DEFAULTS["base-vectors"], "where the vectors are")
    use_barrel = config("bool", DEFAULTS["use-barrel"], "barrel shifter")
    use_div = config("bool", DEFAULTS["use-div"], "divider")
    use_fpu = config("uint8", DEFAULTS["use-fpu"], "floating point: none, basic or with conversions and square root", maximum=2)
    fpu_exception = config("bool", DEFAULTS["fpu-exception"], "floating-point conditions raise an exception")
    use_hw_mul = config("uint8", DEFAULTS["use-hw-mul"], "multiplier: none, 32 or 64 bits", maximum=2)
    use_msr_instr = config("bool", DEFAULTS["use-msr-instr"], "msrset and msrclr")
    use_pcmp_instr = config("bool", DEFAULTS["use-pcmp-instr"], "pattern compare and clz")
    use_reorder_instr = config("bool", DEFAULTS["use-reorder-instr"], "reversed loads and stores, swapb, swaph")
    use_stack_protection = config("bool", DEFAULTS["use-stack-protection"], "stack limits SLR and SHR")
    exclusive_access = config("bool", DEFAULTS["exclusive-access"], "lwx and swx are exclusive on the bus")
    unaligned_exceptions = config("bool", DEFAULTS["unaligned-exceptions"], "unaligned accesses raise an exception")
    dopb_bus_exception = config("bool", DEFAULTS["dopb-bus-exception"], "failed data accesses raise an exception")
    iopb_bus_exception = config("bool", DEFAULTS["iopb-bus-exception"], "failed fetches raise an exception")
    ill_opcode_exception = config("bool", DEFAULTS["ill-opcode-exception"], "illegal opcodes raise an exception")
    opcode_0x0_illegal = config("bool", DEFAULTS["opcode-0x0-illegal"], "opcode 0 is illegal")
    div_zero_exception = config("bool", DEFAULTS["div-zero-exception"], "division by 0 and overflow raise an exception")
    use_mmu = config("uint8", DEFAULTS["use-mmu"], "none, user mode, memory protection or virtual memory", maximum=3)
    mmu_zones = config("uint8", DEFAULTS["mmu-zones"], "memory protection zones", maximum=16)
    mmu_tlb_access = config("uint8", DEFAULTS["mmu-tlb-access"], "access to the TLB's registers: minimal, read, write or full",
                            maximum=3)
    mmu_privileged_instr = config("uint8", DEFAULTS["mmu-privileged-instr"], "bit 0: stream instructions in user mode",
                                  maximum=3)
    fsl_links = config("uint8", DEFAULTS["fsl-links"], "AXI4-Stream links, each with a master and a slave port", maximum=16)
    use_extended_fsl_instr = config("bool", DEFAULTS["use-extended-fsl-instr"],
                                    "stream instructions that test, are atomic, raise, or have the link in a register")
    fsl_exception = config("bool", DEFAULTS["fsl-exception"], "a wrong control bit raises an exception where eget asks for it")
    pvr = config("uint8", DEFAULTS["pvr"], "processor version registers: none, basic or full", maximum=2)

    # -- booting (Linux, arch/microblaze: registers at the kernel's entry) and the device tree

    FDT_MACHINE = ("ratite", "xlnx,microblaze")

    def boot_args(self, boot: Boot) -> bytes:
        """The command line."""
        return str(boot.cpu.append).encode() + b"\0"

    def boot_registers(self, boot: Boot) -> Mapping[tuple[str, int], int]:
        """r5: command line, r6: initial ramdisk, r7: device tree."""
        return {("r", 5): boot.args_at, ("r", 6): boot.initrd_start, ("r", 7): boot.tree_at}

    def fdt_node(self, tree: DeviceTree) -> None:
        """The CPU."""
        describe(self, tree)

    # -- streams

    def realize(self) -> None:
        """As any CPU; what the links say now is put on the vCPU's lines."""
        super().realize()
        for role, port in self._links:
            self.stream_changed(role, port)

    def stream_ports(self) -> int:
        """C_FSL_LINKS."""
        return int(self.fsl_links)

    def stream_changed(self, role: str, port: int) -> None:
        """TVALID and TREADY are lines of the vCPU, which wake it."""
        if self.vcpu is not None and self.thread is not None:
            first = LINE_PUT if role == MASTER else LINE_GET
            self.vcpu.set_line(first + port, self.stream_level(role, port))
            self.thread.wake()

    @on_vcpu
    def on_ask(self, number: int, value: int) -> int:
        """A stream instruction; see ``stream.ASK_GET`` and ``ASK_PUT``."""
        port, test = value >> LINK_SHIFT & 15, value >> TEST_SHIFT & 1
        with self.machine.lock:
            link = self._links.get((SLAVE if number == ASK_GET else MASTER, port))
            if number == ASK_GET:
                head = link.head() if link is not None else None
                if link is None or head is None:
                    return 0
                if not test:
                    link.pop()
                return head[0] | head[1] << ANSWER_LAST | 1 << ANSWER_VALID
            if link is None or not link.ready():
                return 0
            if not test:
                link.push(value & 0xFFFFFFFF, bool(value >> CONTROL_SHIFT & 1))
            return 1

    def isa_config(self) -> Mapping[str, object]:
        """The whole configuration and the byte order."""
        values = {name: getattr(self, name.replace("-", "_")) for name in DEFAULTS if name != "big"}
        return {**values, "big": self.cluster.big_endian}
