"""riscv.sifive.plic against its specification: gateways, priorities, thresholds, claims; and a model that is slow and plain."""

from __future__ import annotations

from typing import Any

import pytest
from hw_kit import Bench
from hypothesis import given, settings
from hypothesis import strategies as st

from ratite.core.irq import Input
from ratite.qapi.errors import GenericError
from ratite.targets.riscv.devices.plic import SifivePlic

PENDING, ENABLE, THRESHOLD, CLAIM = 0x1000, 0x2000, 0x200000, 0x200004


def plic(**props: Any) -> Bench:
    return Bench(SifivePlic, **props)


def allow(bench: Bench, source: int, priority: int = 1, context: int = 0) -> None:
    bench.wr(4 * source, priority)
    at = ENABLE + 0x80 * context + 4 * (source // 32)
    bench.wr(at, bench.rd(at) | 1 << source % 32)


def claim(bench: Bench, context: int = 0) -> int:
    return bench.rd(CLAIM + 0x1000 * context)


def complete(bench: Bench, source: int, context: int = 0) -> None:
    bench.wr(CLAIM + 0x1000 * context, source)


def test_a_level_source_asks_until_its_line_falls() -> None:
    bench = plic()
    allow(bench, 10)
    bench.drive("irq[10]", 1)
    assert (bench.irq("meip"), bench.irq("seip"), bench.rd(PENDING)) == (1, 0, 1 << 10)
    assert (claim(bench), bench.irq("meip"), bench.rd(PENDING)) == (10, 0, 0)
    assert claim(bench) == 0
    complete(bench, 10)
    assert (bench.irq("meip"), claim(bench)) == (1, 10)
    bench.drive("irq[10]", 0)
    complete(bench, 10)
    assert (bench.irq("meip"), claim(bench)) == (0, 0)


def test_what_was_asked_stays_when_the_line_falls_before_the_claim() -> None:
    bench = plic()
    allow(bench, 1)
    bench.drive("irq[1]", 1)
    bench.drive("irq[1]", 0)
    assert (bench.irq("meip"), claim(bench)) == (1, 1)


def test_edges_while_served_are_kept_once() -> None:
    bench = plic(edge_sources="3,8-9")
    for source in (3, 4, 8, 9):
        allow(bench, source)
    bench.drive("irq[8]", 1)
    assert claim(bench) == 8
    complete(bench, 8)
    assert bench.irq("meip") == 0, "a level that stays is no edge"
    for level in (0, 1, 0, 1, 0, 1):
        bench.drive("irq[8]", level)
    assert claim(bench) == 8
    bench.drive("irq[8]", 0)
    bench.drive("irq[8]", 1)
    complete(bench, 8)
    assert claim(bench) == 8
    complete(bench, 8)
    assert claim(bench) == 0


def test_the_highest_priority_then_the_lowest_source_is_claimed_whatever_the_threshold() -> None:
    bench = plic()
    for source, priority in ((5, 1), (9, 3), (7, 3), (40, 2), (2, 0)):
        allow(bench, source, priority)
        bench.drive(f"irq[{source}]", 1)
    bench.wr(THRESHOLD, 3)
    assert bench.irq("meip") == 0
    bench.wr(THRESHOLD, 2)
    assert bench.irq("meip") == 1
    bench.wr(THRESHOLD, 7)
    assert [claim(bench) for _ in range(5)] == [7, 9, 40, 5, 0], "priority 0 never interrupts"


def test_contexts_are_apart() -> None:
    bench = plic(hart_config="M,MS,S")
    allow(bench, 33, 2, context=2)
    allow(bench, 33, 2, context=3)
    bench.drive("irq[33]", 1)
    assert [bench.irq(f"{line}[{n}]") for line in ("meip", "seip") for n in range(3)] == [0, 0, 0, 0, 1, 1]
    assert (claim(bench, 3), claim(bench, 2), claim(bench, 0)) == (33, 0, 0)
    bench.drive("irq[33]", 0)
    bench.drive("irq[33]", 1)
    complete(bench, 33, context=0)
    assert bench.rd(PENDING + 4) == 0, "a completion of a source that isn't enabled there is ignored"
    complete(bench, 33, context=2)
    assert (bench.rd(PENDING + 4), claim(bench, 2)) == (2, 33)


def test_fields_hold_what_they_can() -> None:
    bench = plic(num_sources=40, num_priorities=5)
    for value, kept in ((5, 5), (6, 5), (0xFFFFFFFF, 5), (0, 0)):
        bench.wr(4, value)
        bench.wr(THRESHOLD, value)
        assert (bench.rd(4), bench.rd(THRESHOLD)) == (kept, kept)
    bench.wr(0, 1)
    bench.wr(ENABLE, 0xFFFFFFFF)
    bench.wr(ENABLE + 4, 0xFFFFFFFF)
    bench.wr(PENDING, 0xFFFFFFFF)
    assert (bench.rd(0), bench.rd(ENABLE), bench.rd(ENABLE + 4), bench.rd(PENDING)) == (0, 0xFFFFFFFE, 0x1FF, 0)
    assert bench.dev.unmodelled_accesses == 0
    for at in (4 * 41, ENABLE + 8, PENDING + 8, THRESHOLD + 8, THRESHOLD + 0x2000):
        assert bench.rd(at) == 0
        bench.wr(at, 1)
    assert bench.dev.unmodelled_accesses == 10


@pytest.mark.parametrize(("props", "text"), [
    ({"hart_config": "U"}, "hart-config' must be like"),
    ({"hart_config": "SM"}, "hart-config' must be like"),
    ({"hart_config": ","}, "hart-config' must be like"),
    ({"edge_sources": "a"}, "edge-sources' must be like"),
    ({"edge_sources": "97"}, "must be between 1 and num-sources 96"),
    ({"edge_sources": "9-3"}, "must be between 1 and num-sources 96"),
    ({"aperture_size": 0x200000}, "inside aperture-size 0x200000"),
    ({"pending_base": 0x100}, "priorities and pending bits overlap at 0x100"),
    ({"enable_stride": 8}, "enable-stride must be a multiple of 4 and at least 16"),
    ({"context_stride": 4}, "context-stride must be"),
    ({"enable_stride": 0}, "enable-stride must be"),
])
def test_layouts_are_checked(props: dict[str, Any], text: str) -> None:
    with pytest.raises(GenericError, match=text):
        plic(**props)


def test_wires_that_lead_nowhere_are_told() -> None:
    bench, errors = plic(hart_config="M,MS"), list[str]()
    bench.dev.out("seip[1]").connect(Input(bench.dev, "x", 0))
    bench.dev.check_wired(errors)
    assert errors == []
    bench.dev.out("seip[0]").connect(Input(bench.dev, "x", 0))
    bench.dev.out("meip[0]").connect(bench.dev.inp("irq[0]"))
    bench.dev.check_wired(errors)
    assert [text.partition(": ")[2] for text in errors] == [
        "hart-config 'M,MS' has no context for seip[0]", "irq[0] is wired, but sources start at 1",
    ]  # fmt: skip


class Model:
    """The specification's words, a bit at a time."""

    def __init__(self, sources: int, contexts: int, edge: set[int]) -> None:
        self.edge = edge
        self.priority = [0] * (sources + 1)
        self.level, self.asked, self.served, self.kept = set[int](), set[int](), set[int](), set[int]()
        self.enabled = [set[int]() for _ in range(contexts)]
        self.threshold = [0] * contexts

    def line(self, source: int, level: int) -> None:
        rises = level and source not in self.level
        (self.level.add if level else self.level.discard)(source)
        if not rises and (source in self.edge or not level):
            return
        if source not in self.served:
            self.asked.add(source)
        elif source in self.edge:
            self.kept.add(source)

    def claim(self, context: int) -> int:
        fit = [s for s in self.asked if s in self.enabled[context] and self.priority[s]]
        if not fit:
            return 0
        best = min(fit, key=lambda s: (-self.priority[s], s))
        self.asked.discard(best)
        self.served.add(best)
        return best

    def complete(self, context: int, source: int) -> None:
        if source in self.served and source in self.enabled[context]:
            self.served.discard(source)
            again = self.kept if source in self.edge else self.level
            if source in again:
                self.kept.discard(source)
                self.asked.add(source)

    def output(self, context: int) -> int:
        return int(any(self.priority[s] > self.threshold[context] for s in self.asked & self.enabled[context]))


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("line"), st.integers(1, 40), st.integers(0, 1)),
        st.tuples(st.just("priority"), st.integers(1, 40), st.integers(0, 7)),
        st.tuples(st.just("enable"), st.integers(0, 2), st.integers(1, 40)),
        st.tuples(st.just("threshold"), st.integers(0, 2), st.integers(0, 3)),
        st.tuples(st.just("claim"), st.integers(0, 2)),
        st.tuples(st.just("complete"), st.integers(0, 2), st.integers(0, 45)),
    ),
    max_size=80,
)


@settings(max_examples=200, deadline=None)
@given(STEPS)
def test_as_the_model(steps: list[tuple[Any, ...]]) -> None:
    bench, model = plic(hart_config="MS,M", num_sources=40, edge_sources="20-40"), Model(40, 3, set(range(20, 41)))
    for name, *args in steps:
        if name == "line":
            bench.drive(f"irq[{args[0]}]", args[1])
            model.line(*args)
        elif name == "priority":
            bench.wr(4 * args[0], args[1])
            model.priority[args[0]] = args[1]
        elif name == "enable":
            allow(bench, args[1], model.priority[args[1]], args[0])
            model.enabled[args[0]].add(args[1])
        elif name == "threshold":
            bench.wr(THRESHOLD + 0x1000 * args[0], args[1])
            model.threshold[args[0]] = args[1]
        elif name == "claim":
            assert claim(bench, args[0]) == model.claim(args[0])
        else:
            complete(bench, args[1], args[0])
            model.complete(*args)
        assert [bench.irq("meip[0]"), bench.irq("seip[0]"), bench.irq("meip[1]")] == [model.output(c) for c in range(3)]
        assert bench.rd(PENDING) | bench.rd(PENDING + 4) << 32 == sum(1 << s for s in model.asked)
