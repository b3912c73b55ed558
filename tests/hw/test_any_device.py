"""What holds for every device: no access raises, state keeps its declared types, a copy of the state is a copy, and what a
device says of accesses that are made again and again is what it does at each."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import pytest
from hw_kit import Bench, BenchMachine
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ratite.core.memory import BusError
from ratite.hw import TYPES

RISCV = (
    "ratite.targets.riscv.devices.aclint:AclintMtimer",
    "ratite.targets.riscv.devices.aclint:AclintSwi",
    "ratite.targets.riscv.devices.plic:SifivePlic",
)
# What sits on a PCI bus needs a machine: tests/pci. A stream's FIFO has CPUs at its ends and no registers: tests/targets.
DEVICES = tuple(path for path in TYPES + RISCV if not any(word in path for word in (".pci", "esb", "Bus", "AxisDataFifo")))
NEEDED: dict[str, dict[str, Any]] = {
    "Unimplemented": {"name": "x", "size": 0x100},
    "AclintMtimer": {"num_harts": 3, "aperture_size": 0x100, "time_base": 0x80},
    "AclintSwi": {"num_harts": 3},
    "SifivePlic": {
        "hart_config": "M,MS", "num_sources": 37, "edge_sources": "5,30-33", "pending_base": 0x100, "enable_base": 0x110,
        "enable_stride": 8, "context_base": 0x130, "context_stride": 8, "aperture_size": 0x200,
    },
    "OrIrq": {"num_lines": 3},
    "SplitIrq": {"num_lines": 3},
}
VARIANTS: dict[str, list[dict[str, Any]]] = {
    "Ns16550": [{}, {"regshift": 2}, {"regshift": 2, "endianness": "big"}, {"regshift": 3}],
    "AclintSwi": [{}, {"sswi": 1}],
    "GoldfishRtc": [{}, {"big_endian": True, "offset": -5}],
    "XlnxMailbox": [{"depth": 2}, {"if0_endianness": "big"}],
    "XlnxIntc": [{"kind_of_intr": 0x5555_5555, "endianness": "big"}, {"num_intr_inputs": 5}],
    "XlnxTimer": [{"clock_frequency": 1_000_000_000}, {"endianness": "big"}],
}
KEPT = {"GoldfishRtc": ("time-delta",)}  # what outlives a reset
ALL = [
    pytest.param(path, {**NEEDED.get(name, {}), **props}, id=f"{name}-{n}")
    for path in DEVICES
    for name in [path.rpartition(":")[2]]
    for n, props in enumerate(VARIANTS.get(name, [{}]))
]

SIZES = st.sampled_from([1, 2, 4, 8])
VALUES = st.one_of(st.integers(0, 0xFF), st.integers(0, 0xFFF), st.integers(0, (1 << 64) - 1))
OFFSETS = st.one_of(st.integers(0, 0x40), st.integers(0, 0x30).map(lambda n: 4 * n), st.integers(0, 0x1010))
ADDRS = st.tuples(OFFSETS, st.integers(0, 1)).map(lambda t: t[0] + (t[1] << 16))
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("rd"), ADDRS, SIZES),
        st.tuples(st.just("wr"), ADDRS, SIZES, VALUES),
        st.tuples(st.just("wait"), st.sampled_from([1, 100, 10_000, 1_000_000, 1 << 40])),
        st.tuples(st.just("in"), st.integers(0, 31), st.integers(0, 1)),
        st.tuples(st.just("feed"), st.binary(max_size=40)),
        st.tuples(st.just("room"), st.integers(0, 3)),
        st.just(("break",)),
        st.just(("drain",)),
    ),
    max_size=30,
)


def load(path: str) -> Any:
    module, _, name = path.partition(":")
    return getattr(import_module(module), name)


def act(bench: Bench, step: tuple[Any, ...]) -> object:
    """Does one step; gives what the outside saw."""
    name, *args = step
    try:
        if name == "rd":
            return bench.rd(*args)
        if name == "wr":
            bench.wr(args[0], args[2], args[1])
        elif name == "wait":
            bench.pass_ns(args[0])
        elif name == "in":
            ends = list(bench.dev.all_inputs())
            if ends:
                ends[args[0] % len(ends)].deliver(args[1])
        elif bench.line.frontend is not None:
            if name == "feed":
                bench.line.feed(args[0])
            elif name == "room":
                bench.line.room = args[0]
            elif name == "break":
                bench.line.frontend.chr_event("break")
            else:
                bench.line.drain()
    except BusError as error:
        return error.kind
    return None


def check_state(dev: Any) -> None:
    for prop in dev.properties():
        if prop.kind == "state":
            value = dev.raw_property(prop)
            prop.check(bytes(value) if isinstance(value, bytearray) else value, dev.TYPE)


def levels(bench: Bench) -> list[int]:
    return [out.level for out in bench.dev.all_outputs()]


@pytest.mark.parametrize(("path", "props"), ALL)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(STEPS, STEPS, st.booleans())
def test_nothing_raises_and_state_is_all(path: str, props: dict[str, Any], before: Any, after: Any, big: bool) -> None:
    cls = load(path)
    bench = Bench(cls, big=big, **props)
    for step in before:
        act(bench, step)
    check_state(bench.dev)
    assert bench.faults() == 0

    twin_machine = BenchMachine()
    twin_machine.clock.set(bench.machine.clock.now())
    twin_machine.clock.start()
    twin = Bench(cls, twin_machine, big=big, sites=True, **props)
    saved = bench.dev.save_state()
    twin.dev.load_state(saved)
    assert twin.dev.save_state() == saved
    assert levels(twin) == levels(bench)
    twin.line.waiting, twin.line.room = bench.line.waiting, bench.line.room
    for one, two in zip(bench.dev.all_inputs(), twin.dev.all_inputs(), strict=True):
        two.level = one.level
    for step in after:
        assert act(bench, step) == act(twin, step), step
        assert levels(bench) == levels(twin), step
    assert twin.dev.save_state() == bench.dev.save_state()
    check_state(bench.dev)
    assert bench.faults() == twin.faults() == 0

    bench.dev.reset()
    fresh = Bench(cls, bench.machine, big=big, **props)
    if bench.line.frontend is None or not (bench.line.waiting or getattr(bench.dev, "rx_fifo", None)):
        old, new = bench.dev.save_state(), fresh.dev.save_state()
        for kept in KEPT.get(cls.__name__, ()):
            del old[kept], new[kept]
        assert old == new, "a reset device is a new device"
    bench.dev.unrealize()
    bench.pass_ns(1 << 50)


@pytest.mark.parametrize("path", DEVICES)
def test_types_say_what_they_are(path: str) -> None:
    cls = load(path)
    assert cls.__doc__
    assert cls.TYPE
    assert not cls.ABSTRACT
    assert all(prop.text for prop in cls.PROPERTIES.values())
