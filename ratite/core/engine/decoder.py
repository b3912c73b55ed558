"""Native decoders, from the encoding patterns: a tree of switches over the bits that tell instructions apart.

``fetch_K(cpu, header, record, pc, near)`` reads the instruction at pc from its page, decodes it for context K and fills
the record. The handler ``decode_K`` is what a record holds before its first use: it fetches in place and goes on.
"""

from __future__ import annotations

from collections.abc import Iterator

from ratite.core.engine import block as B
from ratite.core.engine.ir import SLOW, THREADED
from ratite.core.engine.threaded import SIGNATURE, SLOTS, DirectEmitter, HandlerEmitter, handler_name
from ratite.core.isa.isa import Insn, Isa
from ratite.core.isa.operands import Operands
from ratite.core.isa.value import V
from ratite.core.memory.code import LINE_BITS

Near = set[tuple[str, int, int]]


def decode_functions(isa: Isa, shape: B.Shape, near: Near) -> Iterator[DirectEmitter]:
    """The functions of every context; ``near``: (instruction, length, context) that have near variants."""
    for number, ctx in enumerate(isa.contexts):
        yield _fetch(isa, shape, near, number, ctx)
        yield _decode_handler(isa, shape, number, ctx)
        if any(n > isa.parcel for n in {isa.default_length, *(n for _, _, n in isa.lengths)}):
            yield _cross_handler(isa, shape, number, ctx)


def _word(e: DirectEmitter, pointer: str, size: int) -> V:
    raw = e.v(e.let(f"load i{8 * size}, ptr {pointer}, align 1"), 8 * size)
    return raw.bswap() if e.isa.big_endian and size > 1 else raw


def _mark(e: DirectEmitter, marks: str, offset: V) -> None:
    """Notes that the line at ``offset`` of the page holds decoded code, before its bytes are read."""
    e.put(f"store volatile i8 1, ptr {e.at(marks, str((offset >> LINE_BITS).ref))}")
    e.fence()


def _fetch(isa: Isa, shape: B.Shape, near: Near, number: int, ctx: str) -> DirectEmitter:
    """Reads parcels within the page and decodes; an instruction that leaves its page gets the handler ``cross_K``."""
    e = DirectEmitter(isa, shape, ctx)
    e.begin(f"internal void @{isa.name}_fetch_{number}(ptr %cpu, ptr %header, ptr %rec, i64 %pc, i1 %near) noinline")
    code = e.let("load ptr, ptr %header")
    offset = e.v("%pc", 64) & (shape.page - 1)
    at = e.at(code, str(offset.ref))
    marks = e.let(f"load ptr, ptr {e.at('%header', 8)}")
    _mark(e, marks, offset)
    first = _word(e, at, isa.parcel)

    def decode(length: int) -> None:
        if length == isa.parcel:
            tree(e, first, length)
            return
        over, inside = e.new_label(), e.new_label()
        e.fork(str(offset.ugt(shape.page - length).ref), over, inside)
        e.label(over)
        e.put(f"store ptr @{isa.name}_cross_{number}, ptr %rec")
        e.end("ret void")
        e.label(inside)
        _mark(e, marks, offset + (length - 1))
        word = first.zext(8 * length)
        for k in range(isa.parcel, length, isa.parcel):
            word = word | (_word(e, e.at(at, k), isa.parcel).zext(8 * length) << 8 * k)
        tree(e, word, length)

    def tree(e: DirectEmitter, word: V, length: int) -> None:
        _Tree(e, near, number, word, length, "%pc", "%near").emit(isa.candidates(ctx, length), 0)

    for mask, match, length in isa.lengths:
        yes, no = e.new_label(), e.new_label()
        e.fork(str((first & mask).eq(match).ref), yes, no)
        e.label(yes)
        decode(length)
        e.label(no)
    decode(isa.default_length)
    return e


def _decode_handler(isa: Isa, shape: B.Shape, number: int, ctx: str) -> DirectEmitter:
    e = HandlerEmitter(isa, shape, ctx)
    e.begin(f"hidden {THREADED} void @{isa.name}_decode_{number}{SIGNATURE} noinline")
    pc = e.pc64()
    rec = e.v(e.let("ptrtoint ptr %rec to i64"), 64)
    base = rec - ((pc & (shape.page - 1)) << shape.shift) - (shape.context_offset(number) + B.PAGE_HEADER)
    header = e.let(f"inttoptr i64 {base.ref} to ptr")
    e.put(f"call void @{isa.name}_fetch_{number}(ptr %cpu, ptr {header}, ptr %rec, i64 {pc.ref}, i1 true)")
    e.go("%rec", "%delta", "%bud")
    return e


def _cross_handler(isa: Isa, shape: B.Shape, number: int, ctx: str) -> DirectEmitter:
    """An instruction whose second parcel lies in the next page: decoded into the scratch records each time, because
    two pages would have to be watched for stores. Instructions of at most two parcels."""
    e = HandlerEmitter(isa, shape, ctx)
    e.begin(f"internal {THREADED} void @{isa.name}_cross_{number}{SIGNATURE} noinline")
    length = max(n for _, _, n in isa.lengths)
    pc = e.pc64()
    parts = []
    for k in (0, isa.parcel):
        at = (pc + k).trunc(isa.word).zext(64)
        base = e.v(e.let(f"call {SLOW} i64 @{isa.name}_records(ptr %cpu, i64 {at.ref})"), 64)
        none, on = e.new_label(), e.new_label()
        e.fork(str(base.eq(0).ref), none, on)
        e.label(none)
        e.no_code(pc)
        e.label(on)
        header = e.let(f"inttoptr i64 {(base - B.PAGE_HEADER).ref} to ptr")
        host = e.let(f"load ptr, ptr {header}")
        parts.append(_word(e, e.at(host, str((at & (shape.page - 1)).ref)), isa.parcel))
    word = parts[0].zext(8 * length) | (parts[1].zext(8 * length) << 8 * isa.parcel)
    scratch = e.at("%cpu", shape.scratch + shape.context_offset(number))
    e.put(f"call void @{isa.name}_place_{number}(ptr {scratch}, i{8 * length} {word.ref}, i64 {pc.ref})")
    at = e.v(e.let(f"ptrtoint ptr {scratch} to i64"), 64)
    e.go(scratch, str((pc - (at >> shape.shift)).ref), "%bud")
    e.finish()
    tree = DirectEmitter(isa, shape, ctx)
    tree.out = e.out  # one after the other: the second function belongs to the first
    tree.begin(f"internal void @{isa.name}_place_{number}(ptr %rec, i{8 * length} %word, i64 %pc) noinline")
    tree.dead = False
    tree.here = "entry"
    _Tree(tree, set(), number, tree.v("%word", 8 * length), length, "%pc", "false").emit(
        isa.candidates(ctx, length), 0)
    tree.intrinsics |= e.intrinsics
    return tree


class _Tree:
    """The decision tree over one instruction word; each leaf fills the record and returns."""

    def __init__(self, e: DirectEmitter, near: Near, number: int, word: V, length: int, pc: str, allow: str) -> None:
        self.e = e
        self.near = near
        self.number = number
        self.word = word
        self.length = length
        self.pc = pc
        self.allow = allow

    def emit(self, rows: list[Insn], known: int) -> None:
        """``known``: bits of the word that are already decided."""
        if not rows:
            self.illegal()
            return
        common = -1
        for row in rows:
            common &= row.pattern.mask
        common &= ~known
        if len(rows) == 1 or common == 0:
            self._first(rows, known)
        else:
            self._switch(rows, common, known)

    def _first(self, rows: list[Insn], known: int) -> None:
        """Tests the most specific row; the others follow."""
        e, row = self.e, rows[0]
        rest = row.pattern.mask & ~known
        no = e.new_label()
        if rest:
            yes = e.new_label()
            e.fork(str((self.word & rest).eq(row.pattern.match & rest).ref), yes, no)
            e.label(yes)
        values = e.isa.operand_values(row, self.word)
        if row.where is not None:
            fits = row.where(Operands(values.__getitem__))
            yes = e.new_label()
            e.fork(str(fits.ref).replace("-1", "1"), yes, no)
            e.label(yes)
        self.leaf(row, values)
        if rest or row.where is not None:
            e.label(no)
            self.emit(rows[1:], known)

    def _switch(self, rows: list[Insn], common: int, known: int) -> None:
        e = self.e
        groups: dict[int, list[Insn]] = {}
        for row in rows:
            groups.setdefault(row.pattern.match & common, []).append(row)
        width = self.word.width
        labels = {k: e.new_label() for k in groups}
        other = e.new_label()
        table = " ".join(f"i{width} {k}, label %{lb}" for k, lb in labels.items())
        e.end(f"switch i{width} {(self.word & common).ref}, label %{other} [{table}]")
        e.label(other)
        self.illegal()
        for k, lb in labels.items():
            e.label(lb)
            self.emit(groups[k], known | common)

    def illegal(self) -> None:
        e = self.e
        word = self.word.zext(32) if self.word.width < 32 else self.word.trunc(32)
        e.put(f"store i32 {word.ref}, ptr {e.at('%rec', 8)}")
        e.put(f"store ptr {handler_name(e.isa, 'illegal', self.length, self.number)}, ptr %rec")
        e.end("ret void")

    def leaf(self, insn: Insn, values: dict[str, V]) -> None:
        e, isa = self.e, self.e.isa
        handler = handler_name(isa, insn.like, insn.length, self.number)
        relative = values.get(insn.relative) if (insn.like, insn.length, self.number) in self.near else None
        for name, value in values.items():
            slot = isa.slot(name)
            if slot == "imm":
                if value is relative:
                    continue
                e.put(f"store i32 {value.trunc(32).ref}, ptr {e.at('%rec', 8)}")
            else:
                e.put(f"store i8 {self._register(insn, name, value).trunc(8).ref}, ptr {e.at('%rec', SLOTS[slot])}")
        if relative is not None:
            handler = self._near(insn, relative)
        e.put(f"store ptr {handler}, ptr %rec")
        e.end("ret void")

    def _register(self, insn: Insn, name: str, value: V) -> V:
        """A destination whose element 0 is wired to zero goes to the spare element."""
        isa = self.e.isa
        key = insn.operands.get(name) or isa.by_name[insn.like].operands.get(name)  # that of a constant is the base's
        field = isa.fields[key] if key else None
        if field is not None and field.dest and isa.layout[field.file].zero:
            return self.e.select(value.eq(0), isa.layout[field.file].count, value)
        return value

    def _near(self, insn: Insn, distance: V) -> str:
        """Picks the variant for a pc-relative jump and stores its distance as that one wants it."""
        e, shape = self.e, self.e.shape
        imm = distance.sext(64)
        offset = e.v(self.pc, 64) & (shape.page - 1)
        inside = (offset + imm).ult(shape.page) & (imm & (e.isa.parcel - 1)).eq(0) & e.v(self.allow, 1)
        scaled = e.select(inside, imm << shape.shift, imm)
        e.put(f"store i32 {scaled.trunc(32).ref}, ptr {e.at('%rec', 8)}")
        far, forward, backward = (handler_name(e.isa, insn.like, insn.length, self.number, n) for n in ("", "f", "b"))
        way = e.let(f"select i1 {imm.sgt(0).ref}, ptr {forward}, ptr {backward}")
        return e.let(f"select i1 {inside.ref}, ptr {way}, ptr {far}")
