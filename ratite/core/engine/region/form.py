"""What goes into a region: found by walking the guest's code from an entry, then written down block by block.

Which instructions follow each other is learned from the semantics themselves: each is written once for nothing, and what it
did to control is looked at. Only code that tier 0 has decoded is walked, so what never ran costs nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from ratite.core.engine import block as B
from ratite.core.engine.ir import CPU_SCOPE, METADATA, SLOW, THREADED
from ratite.core.engine.region.access import Group, groups
from ratite.core.engine.region.countdown import countdowns
from ratite.core.engine.region.emit import Flow, Key, RegionEmitter, Unsuitable
from ratite.core.engine.region.policy import Limits
from ratite.core.engine.threaded import SIGNATURE
from ratite.core.isa.isa import Isa
from ratite.core.isa.value import V


class PageView(Protocol):
    """A page as the former sees it. ``code``: its bytes; ``decoded``: per context, a byte per parcel, not 0 where decoded;
    ``jumps``: by offset of a jump to a computed address, how far away it was seen to go."""

    code: bytes
    decoded: list[bytes]
    jumps: dict[int, list[int]]


PageSource = Callable[[int], PageView | None]  # by distance from the entry's page, in pages


class Unit:
    """One instruction: ``semantics`` and what they are called with besides the emitter's operands."""

    __slots__ = ("flow", "key", "length", "raw", "semantics", "values")

    def __init__(self, key: Key, length: int, raw: bytes, semantics: Callable[..., object], values: dict[str, int]) -> None:
        self.key = key
        self.length = length
        self.raw = raw
        self.semantics = semantics
        self.values = values
        self.flow = Flow()


class Region:
    """What was formed: ``text`` (LLVM), entries (distances from the entry's page, the asked one first; symbol ``e<k>``), pages
    (distances; the first is 0, the others are in the symbol ``pages`` in this order), ``ranges``: (page, first byte, last
    byte + 1) of the code that it was made from, with ``count`` instructions."""

    def __init__(self, text: str, entries: list[int], pages: list[int], ranges: list[tuple[int, int, int]], count: int) -> None:
        self.text = text
        self.entries = entries
        self.pages = pages
        self.ranges = ranges
        self.count = count


class Former:
    """Forms regions of one ISA. ``table``: tier 0's functions by name."""

    def __init__(self, isa: Isa, table: dict[str, int]) -> None:
        self.isa = isa
        self.shape = B.Shape(isa)
        self.table = table
        self.links: set[tuple[str, int]] = set()  # registers that calls were seen to leave their return address in

    def form(self, entry: int, source: PageSource, limits: Limits, wanted: Sequence[int] = ()) -> Region | None:
        """The region that starts ``entry`` bytes into page 0, with ``wanted`` as further entries as far as they are in it; None
        where nothing can be made of it."""
        walk = _Walk(self, source, limits)
        walk.run(entry, wanted)
        if (entry, 0) not in walk.units:
            return None
        return _Writer(self, walk, limits, entry).region()


class _Walk:
    """Discovery."""

    def __init__(self, former: Former, source: PageSource, limits: Limits) -> None:
        self.former = former
        self.isa = former.isa
        self.page = former.shape.page
        self.limits = limits
        self.source = source
        self.views: dict[int, PageView | None] = {}
        self.units: dict[Key, Unit] = {}
        self.leaders: set[Key] = set()
        self.entries: list[int] = []
        self.sites: dict[tuple[str, int], list[int]] = {}  # return sites by link register
        self.indirect: dict[Key, list[int]] = {}
        self.e = RegionEmitter(self.isa, former.shape, former.table, {}, calls=False)

    def run(self, entry: int, wanted: Sequence[int]) -> None:
        self.entries.append(entry)
        self.work: list[Key] = [(entry, 0)]
        while self.work:
            key = self.work.pop(0)
            if key not in self.units and len(self.units) < self.limits.instructions:
                self._line(key)
        for key in countdowns(self.isa, self.former.shape, self.former.table, self.units):
            del self.units[key]
        self.entries += wanted
        self.leaders |= {(off, 0) for off in self.entries}
        self.leaders &= self.units.keys()
        self.entries = [off for off in dict.fromkeys(self.entries) if (off, 0) in self.units]
        for link in self.former.links:
            self.sites.setdefault(link, [])

    def _view(self, number: int) -> PageView | None:
        if number not in self.views:
            known = sum(v is not None for v in self.views.values())
            near = number == 0 or (abs(number) < B.CODE_TLB_ENTRIES and known < self.limits.pages)
            clash = any(v is not None and (k - number) % B.CODE_TLB_ENTRIES == 0 for k, v in self.views.items())
            self.views[number] = self.source(number) if near and not clash else None
        return self.views[number]

    def _bytes(self, off: int, count: int) -> bytes | None:
        data = b""
        while count:
            number, at = divmod(off, self.page)
            view = self._view(number)
            if view is None:
                return None
            part = view.code[at:at + count]
            data += part
            off += len(part)
            count -= len(part)
        return data

    def _decode(self, key: Key) -> Unit | None:
        off, number = key
        page, at = divmod(off, self.page)
        view = self._view(page)
        parcel = self.isa.parcel
        if view is None or at % parcel or not (view.decoded[number][at // parcel] or self.limits.eager):
            return None
        first = view.code[at:at + parcel]
        length = self.isa.length_of(int.from_bytes(first, "big" if self.isa.big_endian else "little"))
        raw = self._bytes(off, length)
        if raw is None:
            return None
        found = self.isa.decode(self.isa.word_at(raw)[0], length, self.isa.contexts[number])
        if found is None:
            return None
        insn, values = found
        return Unit(key, length, raw, insn.semantics, values)

    def _line(self, key: Key) -> None:
        """Straight code from ``key``."""
        e = self.e
        e.begin_block({})
        linked: tuple[str, int] | None = None
        self.leaders.add(key)
        while True:
            if key in self.units:
                self.leaders.add(key)
                return
            unit = self._decode(key) if len(self.units) < self.limits.instructions else None
            if unit is None:
                return
            e.out.clear()
            e.dead, e.pending = False, 0
            try:
                flow = unit.flow = e.unit(key, unit.length, unit.semantics, e.known(unit.values))
            except Unsuitable:
                return
            self.units[key] = unit
            linked = flow.linked or linked
            if flow.jumps and linked is not None:
                self._call(linked, key[0] + unit.length)
            if flow.dynamic and not (flow.origin is not None and flow.origin in self.former.links):
                self._indirect(key)
            self._targets(key, flow)
            if flow.then is None:
                return
            if flow.then[1] == 0:
                linked = None
            key = flow.then

    def _targets(self, key: Key, flow: Flow) -> None:
        for target in flow.targets:
            self.leaders.add(target)
            if target[0] <= key[0] and target[1] == 0 and self.limits.loop_entries:
                self.entries.append(target[0])
        # the way straight on first: it is more likely to belong here than where a jump goes
        self.work[:0] = sorted(set(flow.targets), key=lambda t: (t[0] <= key[0], t[0]))

    def _call(self, link: tuple[str, int], site: int) -> None:
        self.former.links.add(link)
        sites = self.sites.setdefault(link, [])
        if site not in sites:
            sites.append(site)
            self.entries.append(site)
            self.leaders.add((site, 0))
            self.work.append((site, 0))

    def _indirect(self, key: Key) -> None:
        """Where a computed jump was seen to go. Those places are entries too: other jumps may lead there."""
        page, at = divmod(key[0], self.page)
        view = self.views.get(page)
        known = view.jumps.get(at, []) if view is not None else []
        offs = self.indirect[key] = [key[0] + distance for distance in known[:self.limits.targets]]
        for off in offs:
            self.entries.append(off)
            self.leaders.add((off, 0))
            self.work.append((off, 0))


class _Writer:
    """The second pass: the units in their blocks."""

    def __init__(self, former: Former, walk: _Walk, limits: Limits, entry: int) -> None:
        self.former = former
        self.isa = former.isa
        self.shape = former.shape
        self.walk = walk
        self.entry = entry
        # the first writes blocks for nothing, to see their accesses
        self.survey, self.e = (RegionEmitter(
            former.isa, former.shape, former.table, dict.fromkeys(walk.leaders), calls=limits.calls, lazy=limits.lazy,
            window=limits.window, returns=walk.sites, indirect=walk.indirect) for _ in range(2))

    def region(self) -> Region:
        walk, e = self.walk, self.e
        e.dead = True
        e.out.append("")
        for key in sorted(walk.leaders):
            self._block(e, key, self._plan(key))
        touched = self._ranges()
        pages = [0, *sorted({page for page, _, _ in touched} - {0})]
        if len(pages) > 1:
            e.leaves.add("dispatch_0")  # where a page is not as it was
        e.tails()
        return Region(self._text(pages), walk.entries, pages, touched, len(walk.units))

    def _plan(self, key: Key) -> dict[int, Group]:
        """Accesses of the block that are looked up together."""
        if self.e.calls or self.e.window:
            return {}
        self._block(self.survey, key, {})
        self.survey.out.clear()
        return groups(self.survey.accesses, aligned=self.isa.misaligned == "fault")

    def _block(self, e: RegionEmitter, key: Key, plan: dict[int, Group]) -> None:
        units, leaders = self.walk.units, self.walk.leaders
        e.label(f"B{key[0]}.{key[1]}".replace("-", "m"))
        e.begin_block(plan)
        while True:
            unit = units[key]
            flow = e.unit(key, unit.length, unit.semantics, e.known(unit.values))
            if flow.then is None:
                return
            key = flow.then
            if key in leaders or key not in units:
                e.settle()
                e.off = -(1 << 40)  # falling on is no loop
                e.goto(e.edge(key))
                return
            e.pending += 1

    def _ranges(self) -> list[tuple[int, int, int]]:
        """Runs of bytes of the units, page by page."""
        runs: list[tuple[int, int]] = []
        for off, length in sorted((u.key[0], u.length) for u in self.walk.units.values()):
            if runs and off <= runs[-1][1]:
                runs[-1] = (runs[-1][0], max(runs[-1][1], off + length))
            else:
                runs.append((off, off + length))
        found = []
        for start, end in runs:
            while start < end:
                page, at = divmod(start, self.shape.page)
                stop = min(end, (page + 1) * self.shape.page)
                found.append((page, at, at + stop - start))
                start = stop
        return found

    def _text(self, pages: list[int]) -> str:
        e, entries = self.e, self.walk.entries
        alone = len(entries) == 1
        out = [f"@stat = hidden global [{B.STRIPES * B.STRIPE_SIZE // 8} x i64] zeroinitializer, align {B.STRIPE_SIZE}",
               f"@pages = hidden global [{max(1, len(pages))} x i64] zeroinitializer"]
        where = f"hidden {THREADED} void @e0" if alone else f"internal {THREADED} void @body"
        out.append(f"define {where}(ptr %cpu, ptr %rec, i64 %delta, i64 %bud0) {'strictfp ' if e.uses_fp else ''}{{\nentry:")
        if alone:
            out += self._pc("delta")
            out.append(f"%base64 = sub i64 %pc, {entries[0]}")
        else:
            out.append("%pc = ptrtoint ptr %rec to i64\n%base64 = add i64 %delta, 0")
        out += self._head()
        out += self._guards(pages)
        if alone:
            out.append(f"br label %B{entries[0]}.0")
        else:
            rows = " ".join(f"i64 {off}, label %B{off}.0".replace("%B-", "%Bm") for off in entries[1:])
            out.append("%at = sub i64 %pc, %base64")
            out.append(f"switch i64 %at, label %B{entries[0]}.0 [{rows}]")
        out += e.out
        out.append("}")
        if not alone:
            out += self._stubs(entries)
        return "\n".join([*sorted(e.intrinsics), *out, METADATA])

    def _pc(self, delta: str) -> list[str]:
        # as wide as an address: the record's place and delta wrap where addresses do
        recs = f"%recs = lshr i64 %recn, {self.shape.shift}"
        return ["%recn = ptrtoint ptr %rec to i64", recs, f"%pc = add i64 %recs, %{delta}"]

    def _stubs(self, entries: list[int]) -> list[str]:
        out = []
        for k, off in enumerate(entries):
            out.append(f"define hidden {THREADED} void @e{k}{SIGNATURE} {{\nentry:")
            out += self._pc("delta")
            out.append(f"%base = sub i64 %pc, {off}\n%p = inttoptr i64 %pc to ptr")
            out.append(f"musttail call {THREADED} void @body(ptr %cpu, ptr %p, i64 %base, i64 %bud)\nret void\n}}")
        return out

    def _head(self) -> list[str]:
        e, isa = self.e, self.isa
        out = ["%b = alloca i64\n%x = alloca i64\n%d = alloca i64", "store i64 %bud0, ptr %b\nstore i64 0, ptr %d"]
        if isa.word < 64:
            out.append(f"%base{isa.word} = trunc i64 %base64 to i{isa.word}")
        out.append(f"%tablep = getelementptr i8, ptr %cpu, i64 {B.TABLE}\n%table = load ptr, ptr %tablep")
        if isa.mmu_modes:
            out.append(f"%tlbp = getelementptr i8, ptr %cpu, i64 {B.TLB_DATA}\n%tlb = load ptr, ptr %tlbp")
        if e.window:
            out += self._windows()
        for file, at in sorted(e.used):
            field = isa.layout[file]
            w = 8 * field.size
            v, g = f"%v.{file}.{at}", f"%g.{file}.{at}"
            out += [f"{v} = alloca i{w}", f"{g} = getelementptr i8, ptr %cpu, i64 {field.offset + at * field.size}",
                    f"%i.{file}.{at} = load i{w}, ptr {g}", f"store i{w} %i.{file}.{at}, ptr {v}"]
        return out

    def _windows(self) -> list[str]:
        """The windows stay as they are while the region runs: whatever changes them has it left first."""
        out = []
        rows = [("r", B.WINDOW_READ), ("w", B.WINDOW_WRITE)]
        words = [(f"%w.{n}.{x}", at + 8 * k) for n, at in rows for k, x in enumerate(("floor", "high", "host"))]
        for name, at in [*words, ("%w.w.lines", B.WINDOW_LINES)]:
            kind = "ptr" if name.endswith(("host", "lines")) else "i64"
            out.append(f"{name}.p = getelementptr i8, ptr {'%tlb' if self.isa.mmu_modes else '%cpu'}, "
                       f"i64 {self.shape.window + at + (0 if self.isa.mmu_modes else self.shape.tlb)}")
            out.append(f"{name} = load {kind}, ptr {name}.p{CPU_SCOPE}")
        return out

    def _guards(self, pages: list[int]) -> list[str]:
        """Each further page must be where it was: its code TLB entry is there, or can be made, and shows the physical page
        assumed."""
        if len(pages) == 1:
            return []
        isa, out, absent = self.isa, [], []
        expect = f"getelementptr i8, ptr %table, i64 {8 * self.former.table['expect']}"
        out.append(f"%codep = getelementptr i8, ptr %cpu, i64 {B.TLB_CODE}\n%code = load ptr, ptr %codep")
        for k, number in enumerate(pages[1:]):
            n = f"%q{k}"
            wrap = (1 << isa.word) - 1
            out.append(f"{n}w = add i64 %base64, {number * self.shape.page}")
            out.append(f"{n}v = and i64 {n}w, {wrap if isa.word < 64 else -1}")
            out.append(f"{n}s = lshr i64 {n}v, {isa.page_bits}\n{n}i = and i64 {n}s, {B.CODE_TLB_ENTRIES - 1}")
            out.append(f"{n}o = mul i64 {n}i, {B.CODE_TLB_ENTRY}\n{n}e = getelementptr i8, ptr %code, i64 {n}o")
            out.append(f"{n}t = load i64, ptr {n}e\n{n}f = getelementptr i8, ptr {n}e, i64 16\n{n}p = load i64, ptr {n}f")
            out.append(f"{n}a = load i64, ptr getelementptr (i8, ptr @pages, i64 {8 * (k + 1)})")
            out.append(f"{n}c = icmp eq i64 {n}t, {n}v\n{n}d = icmp eq i64 {n}p, {n}a\n{n}b = and i1 {n}c, {n}d")
            out.append(f"br i1 {n}b, label %guard{k}, label %absent{k}, !prof !10\nguard{k}:")
            absent.append(f"absent{k}:\n{n}x = {expect}\n{n}g = load ptr, ptr {n}x")
            absent.append(f"{n}r = call {SLOW} i64 {n}g(ptr %cpu, i64 {n}v, i64 {n}a)\n{n}y = icmp ne i64 {n}r, 0")
            absent.append(f"br i1 {n}y, label %guard{k}, label %strange")
        strange = ["strange:", "store i64 %pc, ptr %x", "store i64 1, ptr %d", "br label %leave.dispatch_0"]
        return [*out, "br label %inside", *absent, *strange, "inside:"]


__all__ = ["Former", "PageSource", "PageView", "Region", "Unit", "V"]
