"""Messages between the manager and its workers: a head (a dict of plain values, as Python writes
it) and blobs, length first."""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping, Sequence
from typing import Any

_MOST = 64 << 20


class Broken(Exception):
    """The other side is gone or says what it never says."""


def pack(head: Mapping[str, Any], blobs: Sequence[bytes] = ()) -> bytes:
    """One message."""
    text = repr({**head, "blobs": [len(b) for b in blobs]}).encode()
    return b"".join([struct.pack("<I", len(text)), text, *blobs])


def read(exactly: Callable[[int], bytes]) -> tuple[dict[str, Any], list[bytes]]:
    """The next message; ``exactly`` gives so many bytes or raises Broken."""
    from ast import literal_eval  # late: a start has no time for it

    size, = struct.unpack("<I", exactly(4))
    if size > _MOST:
        raise Broken(f"a head of {size} bytes")
    try:
        head = literal_eval(exactly(size).decode())
        lengths = head.pop("blobs")
        if sum(lengths) > _MOST or min(lengths, default=0) < 0:
            raise Broken("blobs of a wrong size")
    except (ValueError, KeyError, TypeError, AttributeError, SyntaxError, MemoryError, RecursionError) as error:
        raise Broken(str(error)) from None
    return head, [exactly(n) for n in lengths]
