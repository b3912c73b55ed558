"""An ISA with one instruction for every operation on values at every width: the two executors must agree on each."""

from __future__ import annotations

from collections.abc import Mapping

from ratite.core.isa.emitter import AMO, Emitter
from ratite.core.isa.isa import Isa
from ratite.core.isa.operands import Operands
from ratite.core.isa.pattern import Field
from ratite.core.isa.state import StateField
from ratite.core.isa.value import COMPARE, FOLD, UNARY, V

WIDTHS = (8, 16, 32, 64)


def _guarded(e: Emitter, op: str, a: V, b: V) -> V:
    """Keeps the operation's contract: shifts below the width, no division by 0 or overflow."""
    if op in ("shl", "lshr", "ashr"):
        b = b & (a.width - 1)
    if op in ("udiv", "urem", "sdiv", "srem"):
        bad = b.eq(0) | (b.eq(-1) & a.eq(1 << (a.width - 1)))
        b = e.select(bad, 1, b)
    return a._bin(op, b)


def build(config: Mapping[str, object]) -> Isa:
    isa = Isa("ops", word=64, big_endian=False, fields={"k": Field("imm", 16)}, parcel=4, default_length=4,
              state=[StateField("a", 64), StateField("b", 64), StateField("r", 64), StateField("s", 64)])
    number = 0

    def declare(name: str, compute: object) -> None:
        nonlocal number

        @isa.insn(name, f"k {number:016b}")
        def semantics(e: Emitter, i: Operands) -> None:
            e.set("r", compute(e).zext(64))  # type: ignore[operator]

        number += 1

    for w in WIDTHS:
        for op in FOLD:
            declare(f"{op}{w}", lambda e, op=op, w=w: _guarded(e, op, e.get("a").trunc(w), e.get("b").trunc(w)))
        for op in COMPARE:
            declare(f"{op}{w}", lambda e, op=op, w=w: e.get("a").trunc(w)._cmp(op, e.get("b").trunc(w)))
        for op in UNARY:
            if op != "bswap" or w > 8:
                declare(f"{op}{w}", lambda e, op=op, w=w: e.get("a").trunc(w)._unary(op))
        for x in WIDTHS:
            if x > w:
                declare(f"sext{w}to{x}", lambda e, w=w, x=x: e.get("a").trunc(w).sext(x))
        for k, signs in enumerate(((False, False), (True, False), (True, True))):
            declare(f"mulh{w}s{k}", lambda e, w=w, s=signs: e.get("a").trunc(w).mulh(e.get("b").trunc(w), *s))
        declare(f"neg{w}", lambda e, w=w: -e.get("a").trunc(w))
        declare(f"select{w}", lambda e, w=w: e.select(
            e.get("a").bit(3), e.get("a").trunc(w), ~e.get("b").trunc(w)))
    for w in (32, 64):
        for op in AMO:
            declare(f"amo{op}{w}", lambda e, op=op, w=w: e.amo(op, e.get("s"), e.get("b").trunc(w)))
    declare("bits", lambda e: e.get("a").bits(41, 7))

    def pick(e: Emitter) -> V:
        out = []
        e.switch(e.get("a").trunc(2), {1: lambda: e.set("r", 11), 3: lambda: e.set("r", 33)}, lambda: e.set("r", 99))
        e.if_(e.get("b").bit(0), lambda: e.set("r", e.get("r") + 1), lambda: e.set("r", e.get("r") + 2))
        out.append(e.get("r"))
        return out[0]

    declare("pick", pick)

    @isa.insn("late", "k 1111111111111111")
    def late(e: Emitter, i: Operands) -> None:  # the operand is first read on one path and used on all
        e.if_(e.get("a").bit(0), lambda: e.set("r", i.k), lambda: e.set("s", i.k + 1))
        e.set("b", e.get("b") + i.k)

    isa.routine("illegal")(lambda e, w: e.trap_jump(e.const(0x1000)))
    isa.routine("fault")(lambda e, kind, addr: e.trap_jump(e.const(0x1000)))
    isa.routine("interrupt")(lambda e: None)
    isa.routine("wake")(lambda e: e.const(1, 1))
    return isa
