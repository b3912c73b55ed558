"""Memory of the host: zeroed, untouched until used, in huge pages where the host has them."""

from __future__ import annotations

import ctypes
import mmap
from pathlib import Path

import pytest

from ratite.core.memory.code import LINE_BITS, PAGE_BITS, CodeMarks
from ratite.core.memory.host import anonymous

THP = Path("/sys/kernel/mm/transparent_hugepage/enabled")


def vm_flags(address: int) -> list[str]:
    """The kernel's flags of the mapping that holds `address`."""
    inside = False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        place = line.split()[0]
        if not place.endswith(":"):
            low, _, high = place.partition("-")
            inside = int(low, 16) <= address < int(high, 16)
        elif inside and place == "VmFlags:":
            return line.split()[1:]
    raise AssertionError(f"{address:#x} is not mapped")


@pytest.mark.parametrize("share", [False, True])
def test_it_is_zeroed_and_writable(share: bool) -> None:
    with anonymous(8 << 20, share) as made:
        assert len(made) == 8 << 20
        assert made[5 << 20] == 0
        made[5 << 20] = 7
        assert made[5 << 20] == 7


@pytest.mark.skipif(not THP.exists(), reason="the host's kernel has no transparent huge pages")
@pytest.mark.parametrize(("size", "huge"), [(64 << 10, False), (8 << 20, True)])
def test_large_memory_asks_for_huge_pages(size: int, huge: bool) -> None:
    with anonymous(size) as made:
        pin = ctypes.c_char.from_buffer(made)
        # In the middle: the host may have joined the ends with neighbours.
        assert ("hg" in vm_flags(ctypes.addressof(pin) + size // 2)) is huge
        del pin


def resident() -> int:
    """Bytes of memory that this process has."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * mmap.PAGESIZE


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="the host doesn't tell")
def test_marks_of_ram_take_memory_only_where_there_is_code() -> None:
    before = resident()
    marks = CodeMarks(16 << 30)
    assert len(marks.lines) == 256 << 20
    assert resident() - before < 64 << 20
    marks.enter(3)
    marks.lines[3 << PAGE_BITS - LINE_BITS] = 1
    marks.leave(3)
    assert not marks.lines[3 << PAGE_BITS - LINE_BITS]
