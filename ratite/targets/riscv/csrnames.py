"""Names of control and status registers, as assemblers know them (RISC-V Privileged ISA 1.12 §2.2)."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

_NAMES: Mapping[int, str] = MappingProxyType({
    0x001: "fflags", 0x002: "frm", 0x003: "fcsr",
    0x100: "sstatus", 0x104: "sie", 0x105: "stvec", 0x106: "scounteren", 0x10A: "senvcfg", 0x140: "sscratch", 0x141: "sepc",
    0x142: "scause", 0x143: "stval", 0x144: "sip", 0x14D: "stimecmp", 0x15D: "stimecmph", 0x180: "satp",
    0x300: "mstatus", 0x301: "misa", 0x302: "medeleg", 0x303: "mideleg", 0x304: "mie", 0x305: "mtvec", 0x306: "mcounteren",
    0x30A: "menvcfg", 0x310: "mstatush", 0x31A: "menvcfgh", 0x320: "mcountinhibit", 0x340: "mscratch", 0x341: "mepc",
    0x342: "mcause", 0x343: "mtval", 0x344: "mip",
    0xB00: "mcycle", 0xB02: "minstret", 0xB80: "mcycleh", 0xB82: "minstreth",
    0xC00: "cycle", 0xC01: "time", 0xC02: "instret", 0xC80: "cycleh", 0xC81: "timeh", 0xC82: "instreth",
    0xF11: "mvendorid", 0xF12: "marchid", 0xF13: "mimpid", 0xF14: "mhartid", 0xF15: "mconfigptr",
    **{0x3A0 + n: f"pmpcfg{n}" for n in range(16)}, **{0x3B0 + n: f"pmpaddr{n}" for n in range(64)},
    **{base + n: f"{name}{n}{half}" for n in range(3, 32)
       for base, name, half in ((0xB00, "mhpmcounter", ""), (0xB80, "mhpmcounter", "h"), (0x320, "mhpmevent", ""),
                                (0xC00, "hpmcounter", ""), (0xC80, "hpmcounter", "h"))},
})


def csr_name(number: int) -> str:
    """A register's name, else its number."""
    return _NAMES.get(number, hex(number))
