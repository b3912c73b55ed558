"""Floating point in native code: the host's SSE (and FMA) arithmetic under MXCSR, integers where that differs.

While native code of an ISA with ``fp`` runs, MXCSR is the guest's: its rounding field is that of the CPU's dynamic mode
(RNE where that is none of the host's four), every exception is masked, denormals are numbers, and the sticky bits that
are set in it belong to the guest as much as the state field ``FpContext.flags``: the guest's flags are the two together.
They come together in ``fp_flags``, and when native code is left. So code made from semantics must respect:

- ``fp_enter`` where native code is entered from outside, ``fp_leave`` before it goes back; a jump between functions that
  were entered so needs nothing.
- A call out of native code (Python, the C library) stands between ``fp_outside`` and ``fp_inside``, which give the callee
  the host's own MXCSR and drop what it does to the sticky bits.
- Arithmetic is written as constrained intrinsics (``round.dynamic``, ``fpexcept.strict``), which LLVM neither folds nor
  moves over accesses to MXCSR; a function that holds some (``uses_fp``) must have the attribute ``strictfp``.
- The field of flags is read by ``fp_flags`` alone: nothing may keep a value of it.
- Functions called @NAME_fp_… (``fp_functions``; slow paths by their calling convention) raise flags in the state field.

Why the host's results and flags are right (Intel SDM volume 1, chapter 4.8, 4.9; 11.5; volume 2; AMD the same): SSE rounds
every operation once in the mode of MXCSR.RC, finds tininess after rounding, and with exceptions masked sets UE only where
the result is inexact too. It differs in the NaN that a NaN result is, so a result is compared with itself; in an FMA
of infinity, 0 and a quiet NaN, which must be invalid by ``FpContext`` and is not; and in conversions to integers out of
range, so those take the host's way only where the exponent says that the result is in range.
"""

from __future__ import annotations

from collections.abc import Callable
from types import MappingProxyType
from typing import TYPE_CHECKING

from ratite.core.engine import block as B
from ratite.core.isa.fp import DZ, FORMATS, FP_OPS, FP_PREDICATES, NV, NX, OF, RDN, RTZ, RUP, UF, FpContext
from ratite.core.isa.value import V

if TYPE_CHECKING:
    from ratite.core.engine.ir import IrEmitter

_TYPE = MappingProxyType({32: "float", 64: "double"})
_STRICT = 'metadata !"fpexcept.strict"'
_DYNAMIC = f'metadata !"round.dynamic", {_STRICT}'
_NAMES = MappingProxyType({"add": "fadd", "sub": "fsub", "mul": "fmul", "div": "fdiv", "sqrt": "sqrt", "fma": "fma"})
_ORDERED = MappingProxyType({"eq": "oeq", "lt": "olt", "le": "ole"})

_MASKED = 0x1F80  # MXCSR: every exception masked
_RC = MappingProxyType({RDN: 1 << 13, RUP: 2 << 13, RTZ: 3 << 13})
_STICKY = ((NV, 0), (DZ, 2), (OF, 3), (UF, 4), (NX, 5))  # flag, its bit in MXCSR


def context(e: IrEmitter) -> FpContext:
    if e.isa.fp is None:
        raise AssertionError("the ISA declares no floating point")
    return e.isa.fp


# -- MXCSR
def _get_mxcsr(e: IrEmitter, at: int) -> None:
    e.intrinsics.add("declare void @llvm.x86.sse.stmxcsr(ptr)")
    e.put(f"call void @llvm.x86.sse.stmxcsr(ptr {e.at('%cpu', at)})")


def _set_mxcsr(e: IrEmitter, at: int) -> None:
    e.intrinsics.add("declare void @llvm.x86.sse.ldmxcsr(ptr)")
    e.put(f"call void @llvm.x86.sse.ldmxcsr(ptr {e.at('%cpu', at)})")


def _take_rounding(e: IrEmitter) -> None:
    """MXCSR as the dynamic mode wants it, no flag set."""
    value = e.const(_MASKED, 32)
    field = context(e).rounding
    if field:
        mode = e.get(field)
        for k, bits in _RC.items():
            value = e.select(mode.eq(k), _MASKED | bits, value)
    e.write(B.MXCSR, value, 32)
    _set_mxcsr(e, B.MXCSR)


def _sticky(e: IrEmitter) -> V:
    """The flags that are in MXCSR now (8 bits)."""
    _get_mxcsr(e, B.MXCSR_NOW)
    now = e.read(B.MXCSR_NOW, 32)
    flags = e.const(0, 32)
    for flag, bit in _STICKY:
        to = flag.bit_length() - 1
        flags = flags | ((now << to - bit if to > bit else now >> bit - to) & flag)
    return flags.trunc(8)


def enter(e: IrEmitter) -> None:
    """Native code is entered from the host."""
    _get_mxcsr(e, B.MXCSR_HOST)
    _take_rounding(e)


def leave(e: IrEmitter) -> None:
    """Native code goes back to the host: the state field has all flags then."""
    if context(e).flags:
        raise_flags(e, _sticky(e))
    _set_mxcsr(e, B.MXCSR_HOST)


def outside(e: IrEmitter) -> None:
    """A function of the host is to be called."""
    _get_mxcsr(e, B.MXCSR_NOW)
    _set_mxcsr(e, B.MXCSR_HOST)


def inside(e: IrEmitter) -> None:
    """It came back."""
    _set_mxcsr(e, B.MXCSR_NOW)


def raise_flags(e: IrEmitter, flags: V | int) -> None:
    field = context(e).flags
    if field:  # not by e.set: functions change it too, so no value of it may be kept
        at = e.isa.layout[field].offset
        e.write(at, e.read(at, 8) | flags, 8)


def flags_now(e: IrEmitter) -> V:
    return e.read(e.isa.layout[context(e).flags].offset, 8) | _sticky(e)


def set_flags(e: IrEmitter, flags: V | int) -> None:
    e.write(e.isa.layout[context(e).flags].offset, flags, 8)
    _set_mxcsr(e, B.MXCSR)


def rounding_changed(e: IrEmitter) -> None:
    if context(e).flags:
        raise_flags(e, _sticky(e))
    _take_rounding(e)


# -- arithmetic
def _float(e: IrEmitter, a: V) -> str:
    known = e.floats.get(str(a.ref))
    return known or e.let(f"bitcast i{a.width} {a.ref} to {_TYPE[a.width]}")


def _bits(e: IrEmitter, value: str, width: int) -> V:
    bits = e.let(f"bitcast {_TYPE[width]} {value} to i{width}")
    e.floats[bits] = value
    return e.v(bits, width)


def _intrinsic(e: IrEmitter, name: str, result: str, parameters: list[tuple[str, str]], tail: str) -> str:
    """A call of a constrained intrinsic; ``parameters``: (type, value)."""
    e.uses_fp = True
    types = ", ".join([*(t for t, _ in parameters), *["metadata"] * tail.count("metadata")])
    e.intrinsics.add(f"declare {result} @llvm.experimental.constrained.{name}({types})")
    listed = ", ".join(f"{t} {v}" for t, v in parameters)
    return e.let(f"call {result} @llvm.experimental.constrained.{name}({listed}, {tail}) strictfp")


def _unordered(e: IrEmitter, value: str, width: int) -> str:
    """Whether a result is a NaN (it is a quiet one, so nothing is raised)."""
    t = _TYPE[width]
    return _intrinsic(e, f"fcmp.f{width}", "i1", [(t, value), (t, value)], f'metadata !"uno", {_STRICT}')


def _with_nan(e: IrEmitter, value: str, width: int, invalid: V | None = None) -> V:
    """The bits of a result, the context's NaN if it is one. ``invalid``: then it was invalid, which the host has not seen;
    a branch and not a select, as nothing has to wait for the comparison so."""
    nan, join = e.new_label(), e.new_label()
    before, ordered = e.here, ~e.v(_unordered(e, value, width), 1)
    e.fork(str(ordered.ref), join, nan, likely=True)
    e.label(nan)
    if invalid is not None:
        raise_flags(e, e.select(invalid, e.const(NV, 8), 0))
    e.goto(join)
    e.label(join)
    double = context(e).nan(64)  # as text a value of either type is written in 64 bits
    t = _TYPE[width]
    return _bits(e, e.let(f"phi {t} [{value}, %{before}], [{double:#018x}, %{nan}]"), width)


def _mode(e: IrEmitter, rounding: V | int | None) -> str:
    """A mode as 64 bits, for a function."""
    if rounding is None:
        field = context(e).rounding
        return str(e.get(field).zext(64).ref) if field else "0"
    return str(rounding.zext(64).ref if isinstance(rounding, V) else rounding)


def _by_integers(e: IrEmitter, name: str, args: list[V], rounding: V | int | None, width: int) -> V:
    """A call of one of ``fp_functions``."""
    listed = "".join(f", i64 {a.zext(64).ref}" for a in args)
    made = e.let(f"call {e.slow} i64 @{e.isa.name}_fp_{name}(ptr %cpu{listed}, i64 {_mode(e, rounding)})")
    return e.v(made, 64).trunc(width)


def _hosted(e: IrEmitter, op: str, rounding: V | int | None) -> bool:
    """Whether the host does it as the ISA wants."""
    if context(e).tininess != "after" or (op == "fma" and not e.shape.host_fma):
        return False
    return rounding is None


def operation(e: IrEmitter, op: str, width: int, args: tuple[V, ...], rounding: V | int | None) -> V:
    if len(args) != FP_OPS[op]:
        raise ValueError(f"{op} takes {FP_OPS[op]} operands, not {len(args)}")
    if not _hosted(e, op, rounding):
        return _by_integers(e, f"{op}{width}", list(args), rounding, width)
    t = _TYPE[width]
    made = _intrinsic(e, f"{_NAMES[op]}.f{width}", t, [(t, _float(e, a)) for a in args], _DYNAMIC)
    invalid = None
    if op == "fma":
        f = FORMATS[width]
        a, b = (x & (f.sign - 1) for x in args[:2])
        invalid = (a.eq(f.infinity) & b.eq(0)) | (a.eq(0) & b.eq(f.infinity))
    return _with_nan(e, made, width, invalid)


def compare(e: IrEmitter, predicate: str, width: int, a: V, b: V, signaling: bool) -> V:
    if predicate not in FP_PREDICATES:
        raise ValueError(f"{predicate!r} is no comparison")
    t = _TYPE[width]
    name = f"{'fcmps' if signaling else 'fcmp'}.f{width}"
    test = f'metadata !"{_ORDERED[predicate]}", {_STRICT}'
    return e.v(_intrinsic(e, name, "i1", [(t, _float(e, a)), (t, _float(e, b))], test), 1)


def convert(e: IrEmitter, source: int, target: int, a: V, rounding: V | int | None) -> V:
    s, t = _TYPE[source], _TYPE[target]
    if source < target:  # exact, whatever the mode
        made = _intrinsic(e, f"fpext.f{target}.f{source}", t, [(s, _float(e, a))], _STRICT)
    elif _hosted(e, "convert", rounding):
        made = _intrinsic(e, f"fptrunc.f{target}.f{source}", t, [(s, _float(e, a))], _DYNAMIC)
    else:
        return _by_integers(e, f"convert{source}", [a], rounding, target)
    return _with_nan(e, made, target)


def from_int(e: IrEmitter, width: int, a: V, signed: bool, rounding: V | int | None) -> V:
    """An unsigned number of 64 bits that is no signed one goes by integers."""
    wide = a.sext(64) if signed else a.zext(64)

    def integers() -> V:
        return _by_integers(e, f"from{'s' if signed else 'u'}{width}", [wide], rounding, width)

    def host() -> V:
        t = _TYPE[width]
        source = a if signed and a.width == 32 else wide
        made = _intrinsic(
            e, f"sitofp.f{width}.i{source.width}", t, [(f"i{source.width}", str(source.ref))], _DYNAMIC)
        return _bits(e, made, width)

    exact = a.width < FORMATS[width].p
    if not exact and not _hosted(e, "from_int", rounding):
        return integers()
    return host() if signed or a.width < 64 else _either(e, a.sge(0), host, integers)


def to_int(e: IrEmitter, width: int, a: V, bits: int, signed: bool, rounding: V | int | None) -> V:
    """The host's way is for numbers whose exponent says that they fit whichever way they are rounded."""
    towards_zero = rounding == RTZ and not isinstance(rounding, V)

    def integers() -> V:
        return _by_integers(e, f"{'s' if signed else 'u'}{bits}of{width}", [a], rounding, bits)

    if not towards_zero and not _hosted(e, "to_int", rounding):
        return integers()
    f = FORMATS[width]
    number = a if not signed else a & (f.sign - 1)
    fits = number.ult(bits - 2 + f.bias << f.p - 1)  # an unsigned result of a number with its sign set doesn't
    return _either(e, fits, lambda: _host_to_int(e, a, bits, towards_zero), integers)


def _host_to_int(e: IrEmitter, a: V, bits: int, towards_zero: bool) -> V:
    value, t = _float(e, a), _TYPE[a.width]
    if towards_zero:
        made = _intrinsic(e, f"fptosi.i64.f{a.width}", "i64", [(t, value)], _STRICT)
    else:  # no intrinsic rounds by MXCSR without a library
        e.uses_fp = True
        name = "cvtss2si" if a.width == 32 else "cvtsd2si"
        made = e.let(f'call i64 asm sideeffect "{name} $1, $0", "=r,x,~{{dirflag}},~{{fpsr}},~{{flags}}"({t} {value}) strictfp')
    return e.v(made, 64).trunc(bits)


def _either(e: IrEmitter, c: V, likely: Callable[[], V], other: Callable[[], V]) -> V:
    if isinstance(c.ref, int):
        return likely() if c.ref else other()
    yes, no, join = e.new_label(), e.new_label(), e.new_label()
    e.fork(c.ref, yes, no, likely=True)
    edges = []
    for label, body in ((yes, likely), (no, other)):
        e.label(label)
        value = body()
        edges.append((str(value.ref), e.here))
        e.goto(join)
    e.label(join)
    return e.phi(value.width, edges)
