"""Addition, comparison, multiplication and division. UG984, chapter 5: add … rsubikc, cmp, mul, muli, idiv."""

from __future__ import annotations

from ratite.core.isa.emitter import Emitter
from ratite.core.isa.operands import Operands
from ratite.core.isa.value import V
from ratite.targets.microblaze.kit import EC_DIVIDE, ESR_DEC, MSR_DZO, Kit

MIN = 1 << 31


def declare(k: Kit) -> None:
    """All of them, as far as they are configured."""
    _sums(k)
    _compare(k)
    _multiply(k)
    if k.c.use_div:
        _divide(k)


def _sums(k: Kit) -> None:
    """Opcode bits: 0 (immediate) 0 (keep carry) (with carry) (subtract); rsub is b + ~a + 1."""
    for code in range(16):
        immediate, keep, carry, subtract = (bool(code & bit) for bit in (8, 4, 2, 1))
        name = f"{'rsub' if subtract else 'add'}{'i' if immediate else ''}{'k' if keep else ''}{'c' if carry else ''}"
        _sum(k, name, code, immediate, keep, carry, subtract)


def _sum(k: Kit, name: str, code: int, immediate: bool, keep: bool, carry: bool, subtract: bool) -> None:
    def semantics(e: Emitter, i: Operands) -> None:
        a = k.ra(e, i)
        b = k.imm(e, i) if immediate else k.rb(e, i)
        if keep and not carry:
            k.set_rd(e, i, b - a if subtract else a + b)
            return
        if subtract:
            a = ~a
        if carry:
            extra: V | int = k.carry(e)
        else:
            extra = int(subtract)
        if keep:
            k.set_rd(e, i, a + b + extra)
            return
        wide = a.zext(64) + b.zext(64) + (extra.zext(64) if isinstance(extra, V) else extra)
        k.set_carry(e, wide.bit(32))
        k.set_rd(e, i, wide.trunc(32))

    pattern = f"{code:06b} rd ra {'imm' if immediate else 'rb 00000000000'}"
    where = None
    if code == 0 and k.c.opcode_0x0_illegal:
        def where(i: Operands) -> V:
            return (i.rd | i.ra | i.rb).ne(0)
    k.op(name, pattern, "{rd}, {ra}, {imm}" if immediate else "{rd}, {ra}, {rb}", where=where)(semantics)


def _compare(k: Kit) -> None:
    for name, low, unsigned in (("cmp", "00000000001", False), ("cmpu", "00000000011", True)):
        @k.op(name, f"000101 rd ra rb {low}", "{rd}, {ra}, {rb}")
        def cmp(e: Emitter, i: Operands, unsigned: bool = unsigned) -> None:
            a, b = k.ra(e, i), k.rb(e, i)
            greater = a.ugt(b) if unsigned else a.sgt(b)
            k.set_rd(e, i, ((b - a) & (MIN - 1)) | (greater.zext(32) << 31))


def _multiply(k: Kit) -> None:
    if k.c.use_hw_mul:
        @k.op("mul", "010000 rd ra rb 00000000000", "{rd}, {ra}, {rb}")
        def mul(e: Emitter, i: Operands) -> None:
            k.set_rd(e, i, k.ra(e, i) * k.rb(e, i))

        @k.op("muli", "011000 rd ra imm", "{rd}, {ra}, {imm}")
        def muli(e: Emitter, i: Operands) -> None:
            k.set_rd(e, i, k.ra(e, i) * k.imm(e, i))

    if k.c.use_hw_mul == 2:
        for name, low, sa, sb in (
            ("mulh", "00000000001", True, True), ("mulhu", "00000000011", False, False),
            ("mulhsu", "00000000010", True, False),
        ):
            @k.op(name, f"010000 rd ra rb {low}", "{rd}, {ra}, {rb}")
            def high(e: Emitter, i: Operands, sa: bool = sa, sb: bool = sb) -> None:
                k.set_rd(e, i, k.ra(e, i).mulh(k.rb(e, i), sa, sb))


def _divide(k: Kit) -> None:
    """rD = rB / rA; a failed division sets MSR[DZO] and is an exception where those are configured and enabled."""

    def failed(e: Emitter, i: Operands, dec: int, result: int) -> None:
        e.set("msr", e.get("msr") | MSR_DZO)
        if k.c.div_zero_exception:
            e.if_(k.enabled(e), lambda: e.routine("exception", EC_DIVIDE | dec))
        k.set_rd(e, i, e.const(result))

    @k.op("idiv", "010010 rd ra rb 00000000000", "{rd}, {ra}, {rb}")
    def idiv(e: Emitter, i: Operands) -> None:
        a, b = k.ra(e, i), k.rb(e, i)
        e.if_(a.eq(0), lambda: failed(e, i, 0, 0), lambda: e.if_(
            a.eq(-1) & b.eq(MIN), lambda: failed(e, i, ESR_DEC, MIN), lambda: k.set_rd(e, i, b.sdiv(a))))

    @k.op("idivu", "010010 rd ra rb 00000000010", "{rd}, {ra}, {rb}")
    def idivu(e: Emitter, i: Operands) -> None:
        a, b = k.ra(e, i), k.rb(e, i)
        e.if_(a.eq(0), lambda: failed(e, i, 0, 0), lambda: k.set_rd(e, i, b.udiv(a)))
