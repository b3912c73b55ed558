"""The functions that do floating point by integers, called from native code where the host's arithmetic won't do:
@NAME_fp_OPWIDTH (block, operands as 64 bits, rounding mode). Those that nobody calls are dropped by LLVM."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

from ratite.core.engine import block as B
from ratite.core.engine.path import Path
from ratite.core.isa import fpint
from ratite.core.isa.fp import FP_OPS, FpContext
from ratite.core.isa.isa import Isa
from ratite.core.isa.value import V

_OPERANDS = ("a", "b", "c")

Body = Callable[[Path, list[V], V], V]


def _make(name: str, widths: tuple[int, ...], body: Body, isa: Isa, shape: B.Shape) -> Path:
    names = _OPERANDS[:len(widths)]
    e = Path(isa, shape, f"fp_{name}", *names, "mode", how="cold")
    args = [e.parameter(n).trunc(w) for n, w in zip(names, widths, strict=True)]
    e.ret(body(e, args, e.parameter("mode")).zext(64))
    return e


def _bodies(fp: FpContext) -> Iterator[tuple[str, tuple[int, ...], Body]]:
    """Name, operands' widths and what to do, of each. Where every operation rounds as the host does by default, those of
    arithmetic but fma are not needed."""
    widths, plain = fp.widths, not fp.rounding and fp.tininess == "after"
    operations: dict[str, Callable[..., V]] = {
        "add": fpint.add, "sub": fpint.sub, "mul": fpint.mul, "div": fpint.div, "sqrt": fpint.sqrt, "fma": fpint.fma}
    for w in widths:
        for name, count in () if plain else FP_OPS.items():
            def operation(e: Path, args: list[V], mode: V, name: str = name, w: int = w) -> V:
                return operations[name](e, w, *args, mode)

            yield f"{name}{w}", (w,) * count, operation

        def convert(e: Path, args: list[V], mode: V, w: int = w) -> V:
            return fpint.convert(e, w, 96 - w, args[0], mode)

        if len(widths) > 1:
            yield f"convert{w}", (w,), convert
        for letter, signed in (("s", True), ("u", False)):
            def from_int(e: Path, args: list[V], mode: V, w: int = w, signed: bool = signed) -> V:
                return fpint.from_int(e, w, args[0], signed, mode)

            yield f"from{letter}{w}", (64,), from_int
            for bits in (32, 64):
                def to_int(e: Path, args: list[V], mode: V, w: int = w, bits: int = bits, signed: bool = signed) -> V:
                    return fpint.to_int(e, w, args[0], bits, signed, mode)

                yield f"{letter}{bits}of{w}", (w,), to_int


def fp_paths(isa: Isa) -> list[Callable[[Isa, B.Shape], Path]]:
    """Makers of the functions, for an ISA with floating point."""
    if isa.fp is None:
        return []
    return [partial(_make, name, widths, body) for name, widths, body in _bodies(isa.fp)]
