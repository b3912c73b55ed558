"""Memory for the records of decoded pages."""

from __future__ import annotations

import ctypes

import pytest

from ratite.core.engine.fresh import FreshPages


@pytest.mark.parametrize("shared", [False, True])
def test_a_slot_is_made_fresh_again(shared: bool) -> None:
    """And the others with it: what is written to one is nobody else's."""
    fresh = FreshPages(b"template", 5000, shared=shared)
    first, second = fresh.more(), fresh.more()
    for slot in (first[0], first[1], second[0]):
        fresh.renew(slot)
        assert ctypes.string_at(slot.base, fresh.size) == b"template".ljust(fresh.size, b"\0")
        ctypes.memset(slot.base, 7, 5000)
    fresh.renew(first[0])
    assert ctypes.string_at(first[0].base, fresh.size) == b"template".ljust(fresh.size, b"\0")
    assert ctypes.string_at(second[0].base, 5000) == b"\7" * 5000
