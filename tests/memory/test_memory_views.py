"""Maps rendered flat, against a model that looks at one byte at a time."""

from __future__ import annotations

import mmap

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ratite.core.memory import Access, AliasRegion, ContainerRegion, MmioRegion, RamRegion, Region, Space
from ratite.core.memory.flat import clashes, flatten, pieces_of
from ratite.core.memory.mtree import flat_rows, tree_rows
from ratite.qapi.errors import GenericError

SPAN = 96


def ram(name: str, size: int, readonly: bool = False) -> RamRegion:
    return RamRegion(name, mmap.mmap(-1, size), readonly)


def mmio(name: str, size: int, endianness: str = "little") -> MmioRegion:
    return MmioRegion(name, size, None, lambda o, s, a: 0, lambda o, s, v, a: None, endianness)


def at(region: Region, offset: int) -> tuple[Region, int, bool] | None:
    """The leaf that shows at `offset` of `region`: the model, straight from the definition."""
    if not region.enabled or not 0 <= offset < region.size:
        return None
    if isinstance(region, ContainerRegion):
        for placed in region.placements:
            found = at(placed.region, offset - placed.offset)
            if found:
                return found
        return None
    if isinstance(region, AliasRegion):
        found = at(region.target, offset + region.offset)
        return found and (found[0], found[1], found[2] or region.readonly)
    return region, offset, bool(getattr(region, "readonly", False))


@st.composite
def trees(draw: st.DrawFn) -> ContainerRegion:
    root = ContainerRegion("root", SPAN)
    containers = [root]
    regions: list[Region] = []
    for n in range(draw(st.integers(1, 9))):
        size = draw(st.integers(1, SPAN))
        kind = draw(st.sampled_from(["ram", "rom", "mmio", "container", "alias", "again"]))
        made: Region
        if kind == "container":
            made = ContainerRegion(f"c{n}", size)
        elif kind == "alias" and regions:
            target = draw(st.sampled_from(regions))
            made = AliasRegion(f"a{n}", target, draw(st.integers(0, target.size - 1)), size, draw(st.booleans()))
        elif kind == "again" and regions:
            made = draw(st.sampled_from(regions))
        elif kind == "mmio":
            made = mmio(f"m{n}", size)
        else:
            made = ram(f"r{n}", size, kind == "rom")
        parent = draw(st.sampled_from(containers))
        try:
            parent.add(made, draw(st.integers(0, parent.size - 1)), draw(st.integers(-1, 2)))
        except GenericError:
            continue
        made.set_enabled(draw(st.integers(0, 9)) > 0)
        regions.append(made)
        if isinstance(made, ContainerRegion):
            containers.append(made)
    return root


@settings(max_examples=300, deadline=None)
@given(trees())
def test_flat_view_is_what_each_byte_shows(root: ContainerRegion) -> None:
    view = flatten(root)
    assert all(a.end <= b.start for a, b in zip(view.ranges, view.ranges[1:], strict=False))
    for addr in range(SPAN + 2):
        found, meant = view.find(addr), at(root, addr)
        if meant is None:
            assert found is None
        else:
            assert found is not None
            assert (found.region, addr - found.delta, found.readonly) == meant
    for a, b in zip(view.ranges, view.ranges[1:], strict=False):
        whole = a.end == b.start and a.region is b.region and a.delta == b.delta and a.readonly == b.readonly
        assert not whole, "neighbours that continue one another must be merged"


@settings(max_examples=200, deadline=None)
@given(trees())
def test_clashes_are_the_equal_overlaps_with_ram(root: ContainerRegion) -> None:
    meant = set()
    seen: list[Region] = [root]
    for region in seen:
        seen.extend(r for r in region.inner() if r not in seen)
    for container in seen:
        if isinstance(container, ContainerRegion):
            for i, p in enumerate(container.placements):
                for j, q in enumerate(container.placements[:i]):
                    if p.priority != q.priority:
                        continue
                    for addr in range(container.size):
                        one, two = at(p.region, addr - p.offset), at(q.region, addr - q.offset)
                        if one and two and (one[0].IS_RAM or two[0].IS_RAM):
                            meant.add((container.name, i, j))
    assert len(clashes(root)) == len(meant)


def test_order_of_assembly_never_shows() -> None:
    parts = [(mmio("b", 8), 0), (mmio("a", 8), 0), (mmio("c", 8), 4)]
    views = []
    for order in (parts, parts[::-1]):
        space = Space()
        for region, offset in order:
            space.map(region, offset)
        views.append([(r.start, r.size, r.region.name) for r in space.view])
    assert views[0] == views[1] == [(0, 8, "a"), (8, 4, "c")]


def test_clash_names_both() -> None:
    space = Space("sys")
    space.map(ram("ram0", 0x2000), 0x1000)
    space.map(mmio("uart0/regs", 0x100), 0x1800)
    assert [str(c) for c in space.clashes()] == [
        "'ram0' and 'uart0/regs' overlap at 0x1800-0x18ff of 'sys' with equal priority"
    ]


def test_a_region_in_two_spaces_and_twice_in_one() -> None:
    one, two, block = Space("one"), Space("two"), ram("shared", 0x1000)
    one.map(block, 0)
    one.map(block, 0x8000)
    two.map(block, 0x4000)
    one.store(0x10, 4, 0x11223344, Access())
    assert two.load(0x4010, 4, Access(big=True)) == 0x44332211
    assert one.load(0x8010, 1, Access()) == 0x44
    one.unmap(block, 0)
    assert [r.start for r in one.view] == [0x8000]
    one.unmap(block)
    assert len(one.view) == 0
    assert len(two.view) == 1


def test_listeners_hear_of_changes_once_a_batch() -> None:
    space, inner, calls = Space(), ContainerRegion("bus", 0x1000), []
    space.listeners.append(lambda old, new: calls.append((len(old), len(new))))
    space.map(inner, 0)
    assert calls == []  # an empty container shows nothing
    with space.batch():
        inner.add(mmio("a", 4), 0)
        inner.add(mmio("b", 4), 8)
    assert calls == [(0, 2)]
    inner.set_enabled(False)
    inner.set_enabled(True)
    assert calls == [(0, 2), (2, 0), (0, 2)]


def test_refusals() -> None:
    outer, inner = ContainerRegion("outer", 0x100), ContainerRegion("inner", 0x100)
    outer.add(inner, 0)
    with pytest.raises(GenericError, match="'outer' can't be mapped in 'inner', which it contains"):
        inner.add(AliasRegion("window", outer, 0, 4).target, 0)
    with pytest.raises(GenericError, match="already mapped at 0x0 of 'outer'"):
        outer.add(inner, 0)
    with pytest.raises(GenericError, match="the offset must be below 0x100"):
        outer.add(mmio("m", 4), 0x100)
    with pytest.raises(GenericError, match="between 1 and 2\\^64, not 0"):
        mmio("m", 0)
    with pytest.raises(GenericError, match="can't start at 0x100"):
        AliasRegion("a", outer, 0x100, 4)


def test_a_map_that_multiplies_is_refused_not_suffered() -> None:
    level: Region = mmio("leaf", 4)
    for n in range(40):
        box = ContainerRegion(f"box{n}", 1 << 40)
        box.add(AliasRegion(f"l{n}", level, 0, 1 << 39), 0, 1)
        box.add(AliasRegion(f"r{n}", level, 0, 1 << 39), 4, 0)
        level = box
    with pytest.raises(GenericError, match="too complex"):
        pieces_of(level)


def test_ram_table_and_rows() -> None:
    space, block = Space("sys"), ram("ram0", 0x3000)
    space.map(block, 0x1000)
    space.map(mmio("dev", 0x10), 0x2000, 1)
    space.map(AliasRegion("rom", block, 0x1000, 0x1000, readonly=True), 0x8000)
    assert [(s, n, h - block.address, o, ro) for s, n, h, _, o, ro in space.view.ram_table()] == [
        (0x1000, 0x1000, 0, 0, False),
        (0x2010, 0x1FF0, 0x1010, 0x1010, False),
        (0x8000, 0x1000, 0x1000, 0x1000, True),
    ]
    assert [(r["start"], r["end"], r["kind"]) for r in flat_rows(space)] == [
        (0x1000, 0x1FFF, "ram"),
        (0x2000, 0x200F, "mmio"),
        (0x2010, 0x3FFF, "ram"),
        (0x8000, 0x8FFF, "rom"),
    ]
    assert [(r["depth"], r["name"], r["priority"]) for r in tree_rows(space)] == [
        (0, "sys", 0),
        (1, "dev", 1),
        (1, "ram0", 0),
        (1, "rom", 0),
    ]
