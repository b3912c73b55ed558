"""A function is called as it was defined: LLVM takes it for granted, across the table through which regions call above all."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from ratite.core.engine.native import NativeIsa, NativeLibrary
from ratite.core.engine.path import Path
from ratite.core.engine.tier0 import Tier0
from tests.engine.toy import ToyPort


@pytest.fixture
def native(library: NativeLibrary) -> NativeIsa:
    return library.get(ToyPort.ISA, {"big": False, "word": 64})


def conventions(text: str, keyword: str, name: str) -> Iterator[tuple[str, str]]:
    """(function, its calling convention) of each definition or call."""
    for found in re.finditer(rf"\b{keyword} (?:internal |hidden |fastcc )*(preserve_\w+)?[^@\n]*@{name}_(\w+)\(", text):
        yield found[2], found[1] or ""


def test_calls_are_as_definitions(native: NativeIsa) -> None:
    isa = native.isa
    tier0 = Tier0(isa)
    text = tier0.text()
    defined = dict(conventions(text, "define", isa.name))
    calls = set(conventions(text, "call", isa.name))
    regions = Path(isa, tier0.shape, "probe", "word", "a")  # what only they call
    regions.break_reservation("%word")
    regions.break_reservation("%word", over=(regions.parameter("a"), 8))
    calls |= set(conventions(regions.text(), "call", isa.name))
    assert {"store", "broken", "broken_over"} <= {name for name, _ in calls} <= set(defined)
    assert {(name, how) for name, how in calls if defined[name] != how} == set()
