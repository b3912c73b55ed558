"""Irq lines: levels, late connection, spelling, one driver a line."""

from __future__ import annotations

from typing import ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ratite.core.device import Device
from ratite.core.irq import parse_end
from ratite.core.objects.props import config
from ratite.qapi.errors import GenericError


class Gate(Device):
    """A device of lines only."""

    TYPE = "gate"
    INPUTS: ClassVar = {"in": "width"}
    OUTPUTS: ClassVar = {"irq": 1, "aux": 2}
    width = config("uint8", 4, "inputs")

    def __init__(self, id: str) -> None:
        super().__init__(id)
        self.heard: list[tuple[str, int, int]] = []

    def on_input(self, name: str, index: int, level: int) -> None:
        self.heard.append((name, index, level))


@pytest.fixture
def pair() -> tuple[Gate, Gate]:
    gates = Gate("a"), Gate("b")
    for gate in gates:
        gate.make_lines()
    return gates


def test_levels_arrive_when_they_change(pair: tuple[Gate, Gate]) -> None:
    a, b = pair
    a.out("irq").connect(b.inp("in[2]"))
    b.inp("in", 2).enable()
    for level in (True, 1, 0, 0, 7):
        a.out("irq[0]").set(level)
    assert b.heard == [("in", 2, 1), ("in", 2, 0), ("in", 2, 1)]


def test_a_late_connection_and_a_late_device_hear_the_level(pair: tuple[Gate, Gate]) -> None:
    a, b = pair
    a.out("irq").set(1)
    a.out("irq").connect(b.inp("in"))
    assert b.heard == []
    b.inp("in").enable()
    b.inp("in").replay()
    assert b.heard == [("in", 0, 1)] * 2
    a.out("irq").disconnect()
    assert b.heard[-1] == ("in", 0, 0)
    a.out("irq").connect(b.inp("in"))
    assert b.heard[-1] == ("in", 0, 1)


def test_a_line_has_one_driver_and_one_receiver(pair: tuple[Gate, Gate]) -> None:
    a, b = pair
    a.out("irq").connect(b.inp("in"))
    with pytest.raises(GenericError, match=r"irq output '/a irq\[0\]' is already wired to '/b in\[0\]'"):
        a.out("irq").connect(b.inp("in[1]"))
    with pytest.raises(GenericError, match=r"irq input '/b in\[0\]' is already wired from '/a irq\[0\]'"):
        a.out("aux").connect(b.inp("in"))


def test_an_unknown_end_names_what_there_is(pair: tuple[Gate, Gate]) -> None:
    with pytest.raises(GenericError, match=r"has no irq output 'nope' \(it has: irq, aux\[0..1\]\)"):
        pair[0].out("nope")
    with pytest.raises(GenericError, match=r"irq input .in\[4\]. of '/a' .* must have an index below 4"):
        pair[0].inp("in[4]")


@given(st.from_regex(r"[a-z]{1,5}", fullmatch=True), st.integers(0, 99999))
def test_spellings(name: str, index: int) -> None:
    assert parse_end(f"{name}[{index}]") == (name, index)
    assert parse_end(name) == (name, 0)


@pytest.mark.parametrize("text", ["", "irq[", "irq[-1]", "irq[01]", "irq[1]x", "3", "irq[1000000]", "a b"])
def test_bad_spellings(text: str) -> None:
    with pytest.raises(GenericError, match="must be spelt"):
        parse_end(text)
