"""Machine status, special purpose registers, caches. UG984, chapter 5: mfs, mts, msrset, msrclr, wic, wdc."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from types import MappingProxyType

from ratite.core.isa.emitter import Emitter
from ratite.core.isa.operands import Operands
from ratite.core.isa.value import V
from ratite.targets.microblaze import mmu
from ratite.targets.microblaze.kit import MSR_C, SLOTS, Kit
from ratite.targets.microblaze.pvr import registers

#: state fields by number of the special purpose register; those that mts may write
_READ = MappingProxyType({0x3: "ear", 0x5: "esr", 0xB: "btr", 0x7: "fsr", 0xD: "edr"})
_WRITE = MappingProxyType({0x7: "fsr"})
_STACK = MappingProxyType({0x800: "slr", 0x802: "shr"})


def declare(k: Kit) -> None:
    """All of them, as far as they are configured."""
    _move(k)
    if k.c.use_msr_instr:
        _status(k)
    _caches(k)


def _move(k: Kit) -> None:
    stack = _STACK if k.c.use_stack_protection else {}
    readable, writable = {**_READ, **stack}, {**_WRITE, **stack}
    versions = registers(k.c)

    @k.control("mfs", "100101 rd 00000 10 number", "{rd}, {imm}", slots=True)
    def mfs(e: Emitter, i: Operands) -> None:
        def put(make: Callable[[], V]) -> Callable[[], None]:
            return lambda: k.set_rd(e, i, make())

        cases = {0x0: put(e.pc), 0x1: put(partial(k.msr, e))}
        cases |= {n: put(partial(e.get, name)) for n, name in readable.items()}
        cases |= {0x2000 + n: put(partial(e.const, value)) for n, value in enumerate(versions)}
        cases |= {n: put(make) for n, make in mmu.readable(k, e).items()}
        if mmu.TLBHI in cases:  # it may change PID
            cases[mmu.TLBHI] = _then(cases[mmu.TLBHI], partial(k.finish, e, poll=True))
        e.switch(i.imm, cases, put(partial(e.const, 0)))
        k.end(e)

    @k.control("mts", "100101 00000 ra 11 number", "{imm}, {ra}", slots=True)
    def mts(e: Emitter, i: Operands) -> None:
        k.privileged(e)
        value, bits = k.ra(e, i), k.writable

        def status() -> None:
            k.set_msr(e, (e.get("msr") & ~bits) | (value & bits))
            k.finish(e, poll=True)

        cases: dict[int, Callable[[], None]] = {n: partial(e.set, name, value) for n, name in writable.items()}
        cases[0x1] = status
        # the next instruction is fetched by the new translation. TLBX and TLBSX don't change it, and no interrupt comes behind
        # them: an index that is looked up (mts rtlbsx, mfs rtlbx, mts rtlbhi) would be the one of the handler's last TLB miss
        for n, body in mmu.writable(k, e, value).items():
            cases[n] = body if n in mmu.INDEX else _then(body, partial(k.finish, e, poll=True))
        e.switch(i.imm, cases, lambda: None)
        k.end(e)


def _then(first: Callable[[], None], second: Callable[[], None]) -> Callable[[], None]:
    def both() -> None:
        first()
        second()

    return both


def _status(k: Kit) -> None:
    """rD gets the old value."""
    for name, bits in (("msrset", "10000"), ("msrclr", "10001")):
        @k.control(name, f"100101 rd {bits} 0 bits", "{rd}, {imm}", slots=True)
        def status(e: Emitter, i: Operands, clear: bool = name == "msrclr") -> None:
            k.privileged(e, i.imm.ne(MSR_C))
            old, bits = e.get("msr"), i.imm & k.writable
            k.set_rd(e, i, k.msr(e))
            k.set_msr(e, old & ~bits if clear else old | bits)
            k.finish(e, poll=True)


def _caches(k: Kit) -> None:
    """There are no caches to see; invalidating the instruction cache fetches anew."""

    @k.control("wic", "100100 00000 ra rb 00001101000", "{ra}, {rb}", slots=True)
    def wic(e: Emitter, i: Operands) -> None:
        k.privileged(e)
        if e.ctx in SLOTS:
            k.finish(e, poll=True)
        else:
            e.flush_code()

    for name, low in (("wdc", "00001100100"), ("wdc.flush", "00001110100"), ("wdc.clear", "00001100110")):
        @k.op(name, f"100100 00000 ra rb {low}", "{ra}, {rb}")
        def wdc(e: Emitter, i: Operands) -> None:
            """Data caches have no contents of their own."""
            k.privileged(e)
