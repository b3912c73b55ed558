"""Regions kept on disk, so that the next run of the same guest finds them compiled.

A file holds one region: what it was made from (the code bytes of every page) and the object. Its name is a digest over all
that its code depends on besides these bytes (see ``base_key``), the entry's place in its page and the bytes of its first
pieces; a name ends in a number, because code that starts alike may go on differently. On a hit every byte of the pieces is
compared with the guest's memory before anything is installed; the files are trusted as ``core.engine.cache`` says.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ratite.core.engine.cache import ObjectCache
from ratite.core.engine.native import NativeIsa
from ratite.qapi.kept import key_of

_START = 16  # bytes of code that candidates for an entry have in common
_CANDIDATES = 8  # regions kept for one start
_PAGES = 64

PieceRow = tuple[int, int, bytes]  # how many pages behind the entry's, first byte in it, the bytes


def base_key(native: NativeIsa) -> bytes:
    """What every region of ``native`` depends on: the sources of emitter and semantics, the configuration, the host."""
    return key_of(b"region", native.key.encode(), " ".join(native.names).encode()).encode()


class RegionStore:
    """Regions of one ISA in ``cache``. Neither method raises for what the file system does or what a file says."""

    def __init__(self, native: NativeIsa, cache: ObjectCache) -> None:
        self._base = base_key(native)
        self._cache = cache.folder(f"regions-{self._base[:16].decode()}")
        self._page = native.shape.page
        self._known: set[str] = set()  # names that are there

    def _name(self, kind: str, entry: int, code: bytes, number: int) -> str:
        start = code[entry:entry + _START]
        return key_of(self._base, f"{kind} {entry} {number}".encode(), start)

    def find(
        self, kind: str, entry: int, code: bytes, fits: Callable[[list[PieceRow]], bool],
    ) -> tuple[dict[str, Any], bytes] | None:
        """A region that starts at ``entry`` of the page with ``code``; ``fits`` says whether its pieces are in memory."""
        for number in range(_CANDIDATES):
            name = self._name(kind, entry, code, number)
            data = self._cache.load(name)
            if data is None:
                return None
            self._known.add(name)
            try:
                head, body = self._parse(data)
                if fits([self._checked(row) for row in head["pieces"]]):
                    return head, body
            except (ValueError, KeyError, TypeError, SyntaxError, IndexError, MemoryError, RecursionError):
                continue  # not one of ours: of no use
        return None

    def _checked(self, row: PieceRow) -> PieceRow:
        number, start, code = row
        if not 0 <= start <= start + len(code) <= self._page or not -_PAGES < number < _PAGES or not isinstance(code, bytes):
            raise ValueError("a piece that is none")
        return row

    @staticmethod
    def _parse(data: bytes) -> tuple[dict[str, Any], bytes]:
        from ast import literal_eval  # late: a start has no time for it

        size = int.from_bytes(data[:4], "little")
        head = literal_eval(data[4:4 + size].decode())
        if not isinstance(head, dict) or 0 not in head["pages"]:
            raise ValueError("no region")
        head["ranges"] = [(number, start, start + len(code)) for number, start, code in head["pieces"]]
        return head, data[4 + size:]

    def keep(self, kind: str, entry: int, codes: Mapping[int, bytes], head: Mapping[str, Any], body: bytes) -> int:
        """Keeps a region that a worker has made; ``codes``: the bytes of its pages as the worker had them. Returns how many
        bytes that takes, 0 if it isn't kept."""
        pieces = [(number, start, codes[number][start:end]) for number, start, end in head["ranges"]]
        text = repr({"pieces": pieces, **{k: head[k] for k in ("entries", "pages", "count")}}).encode()
        for number in range(_CANDIDATES):
            name = self._name(kind, entry, codes[0], number)
            if name not in self._known and self._cache.load(name) is None:
                self._known.add(name)
                return self._cache.store(name, len(text).to_bytes(4, "little") + text + body)
            self._known.add(name)
        return 0
