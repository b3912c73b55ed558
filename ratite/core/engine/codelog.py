"""Which instructions a vCPU has decoded for the first time, for people who follow a guest.

Native code decodes without asking: while the log is on, a ticker makes the vCPU come out of it now and then, and the records of
its pages are compared with what they were.  What was decoded and overwritten in between goes untold.
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from ratite.core.engine.block import RECORD

if TYPE_CHECKING:
    from ratite.core.accel.base import Decoded
    from ratite.core.engine.native import NativeIsa
    from ratite.core.engine.pages import CodePage, CodePages

TICK_S = 0.02  # host seconds
_LONGEST = 16  # bytes of an instruction, of any ISA


class NoLog:
    """Nobody asked."""

    def look(self) -> None:
        """Tell what is new."""

    def close(self) -> None:
        """Tell the last, and no more."""


class CodeLog(NoLog):
    """One vCPU's; made and used on its thread, or while it is parked.  `leave` makes it come out of native code."""

    def __init__(
        self, native: NativeIsa, pages: CodePages, tell: Callable[[list[Decoded]], None], leave: Callable[[], None]
    ) -> None:
        self._native = native
        self._pages = pages
        self._tell = tell
        self._leave = leave
        # The records of a page when they were last looked at, by where they are and what they were made from.
        self._seen = {key: now for _page, key, now in self._records()}
        self._ended = threading.Event()
        threading.Thread(target=self._tick, name="ratite-codelog", daemon=True).start()

    def close(self) -> None:
        self._ended.set()
        self.look()

    def look(self) -> None:
        seen, rows = {}, []
        for page, key, now in self._records():
            seen[key] = now
            if now != self._seen.get(key):
                rows += self._news(page, self._seen.get(key), now)
        self._seen = seen
        if rows:
            self._tell(rows)

    def _records(self) -> Iterator[tuple[CodePage, tuple[int, int, int], bytes]]:
        for page in list(self._pages.by_phys.values()):
            yield page, (page.base, page.phys, page.generation), ctypes.string_at(page.base, self._native.shape.records)

    def _news(self, page: CodePage, before: bytes | None, now: bytes) -> list[Decoded]:
        shape, isa, found = self._native.shape, self._native.isa, {}
        for number, fresh in enumerate(self._native.decode):
            start = shape.context_offset(number)
            for slot in range(shape.slots):
                at = start + slot * RECORD
                if now[at : at + RECORD] != fresh and (before is None or before[at : at + RECORD] == fresh):
                    offset = slot * isa.parcel
                    code = ctypes.string_at(page.host + offset, min(_LONGEST, shape.page - offset))
                    unknown = (page.phys + offset, code[: isa.parcel], "")
                    found[offset] = (isa.disassemble(page.phys + offset, code) or [unknown])[0]
        return [found[offset] for offset in sorted(found)]

    def _tick(self) -> None:
        while not self._ended.wait(TICK_S):
            self._leave()
