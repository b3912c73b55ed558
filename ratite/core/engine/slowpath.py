"""Slow paths of generated code, as LLVM text: what happens when the inline TLB does not answer.

Each looks the address up in the memory map, fills the TLB where a whole page is RAM, and does the access; anything else
goes to the host through the block's callbacks. A failure is left in EXC/EXC_ADDR for the caller to see.
"""

from __future__ import annotations

from ratite.core.engine import block as B
from ratite.core.engine.ir import SLOW
from ratite.core.isa.emitter import LOAD_FAULT, LOAD_MISALIGNED, STORE_FAULT, STORE_MISALIGNED
from ratite.core.isa.isa import Isa


def _swapped(isa: Isa, ref: str, width: int, to: str) -> str:
    """A line that gives ``to``: ``ref`` in the other byte order where the ISA is big-endian."""
    if isa.big_endian and width > 8:
        return f"{to} = call i{width} @llvm.bswap.i{width}(i{width} {ref})"
    return f"{to} = add i{width} {ref}, 0"


def _find(isa: Isa, shape: B.Shape) -> str:
    page = shape.page
    return f"""
define internal ptr @{isa.name}_find(ptr %cpu, i64 %a, i64 %n) noinline {{
entry:
  %mp = getelementptr i8, ptr %cpu, i64 {B.MEMMAP}
  %map = load ptr, ptr %mp
  %cp = getelementptr i8, ptr %cpu, i64 {B.MEMMAP_COUNT}
  %count = load i64, ptr %cp
  %n1 = sub i64 %n, 1
  %last = add i64 %a, %n1
  br label %next
next:
  %k = phi i64 [0, %entry], [%k1, %on]
  %done = icmp uge i64 %k, %count
  br i1 %done, label %none, label %look
look:
  %o = mul i64 %k, {B.MAP_ROW}
  %row = getelementptr i8, ptr %map, i64 %o
  %s = load i64, ptr %row
  %lp = getelementptr i8, ptr %row, i64 8
  %l = load i64, ptr %lp
  %c1 = icmp uge i64 %a, %s
  %c2 = icmp ule i64 %last, %l
  %c = and i1 %c1, %c2
  br i1 %c, label %found, label %on
on:
  %k1 = add i64 %k, 1
  br label %next
found:
  ret ptr %row
none:
  ret ptr null
}}
define internal i1 @{isa.name}_fill(ptr %cpu, ptr %row, i64 %a) noinline {{
  %s = load i64, ptr %row
  %lp = getelementptr i8, ptr %row, i64 8
  %l = load i64, ptr %lp
  %ap = getelementptr i8, ptr %row, i64 16
  %addend = load i64, ptr %ap
  %fp = getelementptr i8, ptr %row, i64 24
  %flags = load ptr, ptr %fp
  %rp = getelementptr i8, ptr %row, i64 32
  %bits = load i64, ptr %rp
  %page = and i64 %a, {-page}
  %end = add i64 %page, {page - 1}
  %first = and i64 %s, -4096
  %fo = sub i64 %a, %first
  %fi = lshr i64 %fo, 12
  %flagp = getelementptr i8, ptr %flags, i64 %fi
  %flag = load volatile i8, ptr %flagp
  %code = icmp ne i8 %flag, 0
  %ro = icmp ne i64 %bits, 0
  %nowrite = or i1 %code, %ro
  %w1 = icmp uge i64 %page, %s
  %w2 = icmp ule i64 %end, %l
  %whole = and i1 %w1, %w2
  br i1 %whole, label %fill, label %out
fill:
  %i0 = lshr i64 %a, {isa.page_bits - 5}
  %i1 = and i64 %i0, {(B.TLB_ENTRIES - 1) * B.TLB_ENTRY}
  %i2 = add i64 %i1, {shape.tlb}
  %entry = getelementptr i8, ptr %cpu, i64 %i2
  store i64 %page, ptr %entry
  %wtag = select i1 %nowrite, i64 -1, i64 %page
  %wp = getelementptr i8, ptr %entry, i64 8
  store i64 %wtag, ptr %wp
  %adp = getelementptr i8, ptr %entry, i64 16
  store i64 %addend, ptr %adp
  br label %out
out:
  ret i1 %code
}}
define internal void @{isa.name}_fail(ptr %cpu, i64 %kind, i64 %a) noinline {{
  %kp = getelementptr i8, ptr %cpu, i64 {B.EXC}
  store i64 %kind, ptr %kp
  %ap = getelementptr i8, ptr %cpu, i64 {B.EXC_ADDR}
  store i64 %a, ptr %ap
  ret void
}}
define internal void @{isa.name}_code_written(ptr %cpu, i64 %a, i64 %n) noinline {{
  %fp = getelementptr i8, ptr %cpu, i64 {B.ON_CODE_WRITE}
  %f = load ptr, ptr %fp
  call void %f(ptr %cpu, i64 %a, i64 %n)
  ret void
}}
"""


def _load(isa: Isa) -> str:
    mask = (1 << isa.word) - 1
    cases = "\n".join(f"""l{n}:
  %v{n} = load i{8 * n}, ptr %p, align 1
  {_swapped(isa, f"%v{n}", 8 * n, f"%s{n}")}
  {f"%w{n} = zext i{8 * n} %s{n} to i64" if n < 8 else "%w8 = add i64 %s8, 0"}
  ret i64 %w{n}""" for n in (1, 2, 4, 8))
    shift = "%sh = sub i64 %n1, %k" if isa.big_endian else "%sh = add i64 %k, 0"
    return f"""
define internal {SLOW} i64 @{isa.name}_load(ptr %cpu, i64 %a, i64 %how) noinline cold {{
entry:
  %n = and i64 %how, 255
  %atomic = icmp ugt i64 %how, 255
  %n1 = sub i64 %n, 1
  %low = and i64 %a, %n1
  %odd = icmp ne i64 %low, 0
  br i1 %odd, label %misaligned, label %aligned
misaligned:
  %m = or i1 %atomic, {int(isa.misaligned == "fault")}
  br i1 %m, label %bad, label %bytes
bad:
  call void @{isa.name}_fail(ptr %cpu, i64 {LOAD_MISALIGNED}, i64 %a)
  ret i64 0
bytes:
  br label %byte
byte:
  %k = phi i64 [0, %bytes], [%k1, %byteok]
  %acc = phi i64 [0, %bytes], [%acc1, %byteok]
  %ak0 = add i64 %a, %k
  %ak = and i64 %ak0, {mask}
  %b = call {SLOW} i64 @{isa.name}_load(ptr %cpu, i64 %ak, i64 1)
  %ep = getelementptr i8, ptr %cpu, i64 {B.EXC}
  %e = load i64, ptr %ep
  %failed = icmp ne i64 %e, 0
  br i1 %failed, label %bytebad, label %byteok
bytebad:
  call void @{isa.name}_fail(ptr %cpu, i64 %e, i64 %a)
  ret i64 0
byteok:
  {shift}
  %sh8 = shl i64 %sh, 3
  %bs = shl i64 %b, %sh8
  %acc1 = or i64 %acc, %bs
  %k1 = add i64 %k, 1
  %more = icmp ult i64 %k1, %n
  br i1 %more, label %byte, label %bytesdone
bytesdone:
  ret i64 %acc1
aligned:
  %row = call ptr @{isa.name}_find(ptr %cpu, i64 %a, i64 %n)
  %none = icmp eq ptr %row, null
  br i1 %none, label %outside, label %ram
outside:
  br i1 %atomic, label %noram, label %mmio
noram:
  call void @{isa.name}_fail(ptr %cpu, i64 {LOAD_FAULT}, i64 %a)
  ret i64 0
mmio:
  %fp = getelementptr i8, ptr %cpu, i64 {B.ON_LOAD}
  %f = load ptr, ptr %fp
  %r = call i64 %f(ptr %cpu, i64 %a, i64 %n)
  ret i64 %r
ram:
  %code = call i1 @{isa.name}_fill(ptr %cpu, ptr %row, i64 %a)
  %ap = getelementptr i8, ptr %row, i64 16
  %addend = load i64, ptr %ap
  %h = add i64 %a, %addend
  %p = inttoptr i64 %h to ptr
  switch i64 %n, label %l8 [i64 1, label %l1 i64 2, label %l2 i64 4, label %l4]
{cases}
}}
"""


def _store(isa: Isa) -> str:
    mask = (1 << isa.word) - 1
    cases = "\n".join(f"""s{n}:
  {f"%t{n} = trunc i64 %v to i{8 * n}" if n < 8 else "%t8 = add i64 %v, 0"}
  {_swapped(isa, f"%t{n}", 8 * n, f"%x{n}")}
  store i{8 * n} %x{n}, ptr %p, align 1
  br label %stored""" for n in (1, 2, 4, 8))
    shift = "%sh = sub i64 %n1, %k" if isa.big_endian else "%sh = add i64 %k, 0"
    return f"""
define internal {SLOW} void @{isa.name}_store(ptr %cpu, i64 %a, i64 %n, i64 %v) noinline cold {{
entry:
  %n1 = sub i64 %n, 1
  %low = and i64 %a, %n1
  %odd = icmp ne i64 %low, 0
  br i1 %odd, label %misaligned, label %aligned
misaligned:
  br i1 {"true" if isa.misaligned == "fault" else "false"}, label %bad, label %bytes
bad:
  call void @{isa.name}_fail(ptr %cpu, i64 {STORE_MISALIGNED}, i64 %a)
  ret void
bytes:
  br label %byte
byte:
  %k = phi i64 [0, %bytes], [%k1, %byteok]
  %ak0 = add i64 %a, %k
  %ak = and i64 %ak0, {mask}
  {shift}
  %sh8 = shl i64 %sh, 3
  %b0 = lshr i64 %v, %sh8
  %b = and i64 %b0, 255
  call {SLOW} void @{isa.name}_store(ptr %cpu, i64 %ak, i64 1, i64 %b)
  %ep = getelementptr i8, ptr %cpu, i64 {B.EXC}
  %e = load i64, ptr %ep
  %failed = icmp ne i64 %e, 0
  br i1 %failed, label %bytebad, label %byteok
bytebad:
  call void @{isa.name}_fail(ptr %cpu, i64 %e, i64 %a)
  ret void
byteok:
  %k1 = add i64 %k, 1
  %more = icmp ult i64 %k1, %n
  br i1 %more, label %byte, label %bytesdone
bytesdone:
  ret void
aligned:
  %row = call ptr @{isa.name}_find(ptr %cpu, i64 %a, i64 %n)
  %none = icmp eq ptr %row, null
  br i1 %none, label %mmio, label %known
known:
  %rp = getelementptr i8, ptr %row, i64 32
  %bits = load i64, ptr %rp
  %ro = icmp ne i64 %bits, 0
  br i1 %ro, label %mmio, label %ram
mmio:
  %fp = getelementptr i8, ptr %cpu, i64 {B.ON_STORE}
  %f = load ptr, ptr %fp
  call void %f(ptr %cpu, i64 %a, i64 %n, i64 %v)
  ret void
ram:
  %code = call i1 @{isa.name}_fill(ptr %cpu, ptr %row, i64 %a)
  %ap = getelementptr i8, ptr %row, i64 16
  %addend = load i64, ptr %ap
  %h = add i64 %a, %addend
  %p = inttoptr i64 %h to ptr
  switch i64 %n, label %s8 [i64 1, label %s1 i64 2, label %s2 i64 4, label %s4]
{cases}
stored:
  br i1 %code, label %written, label %out
written:
  call void @{isa.name}_code_written(ptr %cpu, i64 %a, i64 %n)
  ret void
out:
  ret void
}}
"""


def _atomic(isa: Isa) -> str:
    """``_atomic`` gives the addend for a read-modify-write; ``_conditional`` is a store-conditional: compare and swap
    against the value that the reservation saw (that an equal value was written in between goes unseen)."""
    cases = "\n".join(f"""c{n}:
  %e{n} = trunc i64 %expected to i{8 * n}
  %n{n} = trunc i64 %v to i{8 * n}
  {_swapped(isa, f"%e{n}", 8 * n, f"%x{n}")}
  {_swapped(isa, f"%n{n}", 8 * n, f"%y{n}")}
  %q{n} = cmpxchg ptr %p, i{8 * n} %x{n}, i{8 * n} %y{n} seq_cst seq_cst
  %ok{n} = extractvalue {{ i{8 * n}, i1 }} %q{n}, 1
  br label %swapped""" for n in (4,)) + f"""
c8:
  {_swapped(isa, "%expected", 64, "%x8")}
  {_swapped(isa, "%v", 64, "%y8")}
  %q8 = cmpxchg ptr %p, i64 %x8, i64 %y8 seq_cst seq_cst
  %ok8 = extractvalue {{ i64, i1 }} %q8, 1
  br label %swapped"""
    return f"""
define internal {SLOW} i64 @{isa.name}_atomic(ptr %cpu, i64 %a, i64 %n) noinline cold {{
  %n1 = sub i64 %n, 1
  %low = and i64 %a, %n1
  %odd = icmp ne i64 %low, 0
  br i1 %odd, label %bad, label %aligned
bad:
  call void @{isa.name}_fail(ptr %cpu, i64 {STORE_MISALIGNED}, i64 %a)
  ret i64 0
aligned:
  %row = call ptr @{isa.name}_find(ptr %cpu, i64 %a, i64 %n)
  %none = icmp eq ptr %row, null
  br i1 %none, label %noram, label %known
known:
  %rp = getelementptr i8, ptr %row, i64 32
  %bits = load i64, ptr %rp
  %ro = icmp ne i64 %bits, 0
  br i1 %ro, label %noram, label %ram
noram:
  call void @{isa.name}_fail(ptr %cpu, i64 {STORE_FAULT}, i64 %a)
  ret i64 0
ram:
  %code = call i1 @{isa.name}_fill(ptr %cpu, ptr %row, i64 %a)
  br i1 %code, label %written, label %out
written:
  call void @{isa.name}_code_written(ptr %cpu, i64 %a, i64 %n)
  br label %out
out:
  %ap = getelementptr i8, ptr %row, i64 16
  %addend = load i64, ptr %ap
  ret i64 %addend
}}
define internal {SLOW} i64 @{isa.name}_reserve(ptr %cpu, i64 %a, i64 %n) noinline {{
  %how = or i64 %n, 256
  %v = call {SLOW} i64 @{isa.name}_load(ptr %cpu, i64 %a, i64 %how)
  %ep = getelementptr i8, ptr %cpu, i64 {B.EXC}
  %e = load i64, ptr %ep
  %failed = icmp ne i64 %e, 0
  br i1 %failed, label %out, label %take
take:
  %rap = getelementptr i8, ptr %cpu, i64 {B.RESERVED_ADDR}
  store i64 %a, ptr %rap
  %vp = getelementptr i8, ptr %cpu, i64 {B.RESERVED_VALUE}
  store i64 %v, ptr %vp
  %sp = getelementptr i8, ptr %cpu, i64 {B.RESERVED_SIZE}
  store i64 %n, ptr %sp
  br label %out
out:
  ret i64 %v
}}
define internal {SLOW} i64 @{isa.name}_conditional(ptr %cpu, i64 %a, i64 %n, i64 %v) noinline {{
  %n1 = sub i64 %n, 1
  %low = and i64 %a, %n1
  %odd = icmp ne i64 %low, 0
  br i1 %odd, label %bad, label %aligned
bad:
  call void @{isa.name}_fail(ptr %cpu, i64 {STORE_MISALIGNED}, i64 %a)
  ret i64 0
aligned:
  %sp = getelementptr i8, ptr %cpu, i64 {B.RESERVED_SIZE}
  %size = load i64, ptr %sp
  store i64 0, ptr %sp
  %rap = getelementptr i8, ptr %cpu, i64 {B.RESERVED_ADDR}
  %ra = load i64, ptr %rap
  %c1 = icmp eq i64 %size, %n
  %c2 = icmp eq i64 %ra, %a
  %held = and i1 %c1, %c2
  br i1 %held, label %try, label %lost
lost:
  ret i64 0
try:
  %addend = call {SLOW} i64 @{isa.name}_atomic(ptr %cpu, i64 %a, i64 %n)
  %ep = getelementptr i8, ptr %cpu, i64 {B.EXC}
  %e = load i64, ptr %ep
  %failed = icmp ne i64 %e, 0
  br i1 %failed, label %lost, label %swap
swap:
  %h = add i64 %a, %addend
  %p = inttoptr i64 %h to ptr
  %vp = getelementptr i8, ptr %cpu, i64 {B.RESERVED_VALUE}
  %expected = load i64, ptr %vp
  switch i64 %n, label %c8 [i64 4, label %c4]
{cases}
swapped:
  %ok = phi i1 [%ok4, %c4], [%ok8, %c8]
  %r = zext i1 %ok to i64
  ret i64 %r
}}
"""


def slow_paths(isa: Isa, shape: B.Shape) -> str:
    """All slow paths of ``isa`` as LLVM text."""
    swaps = "".join(f"declare i{w} @llvm.bswap.i{w}(i{w})\n" for w in (16, 32, 64)) if isa.big_endian else ""
    return swaps + _find(isa, shape) + _load(isa) + _store(isa) + _atomic(isa)
