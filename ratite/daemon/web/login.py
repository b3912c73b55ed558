"""One-time codes and the sessions that they are exchanged for.  No IO, no clock of its own.

    mint() ──the user carries it to the browser──> exchange(code) ──cookie──> known(token) ──> end(session)

A code serves once and for a minute; a session ends when it wasn't used for half a day.  Only digests are kept, and they are
compared in constant time, all of them, so that neither a hit nor its place shows.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
from collections.abc import Callable

CODE_SECONDS = 60.0
SESSION_SECONDS = 12 * 3600.0
CODES_MAX = 16
SESSIONS_MAX = 64
_BYTES = 32


class Login:
    """See the module's head.  `now` gives seconds that never go back; `ended` is told of each session that ends, however."""

    def __init__(self, now: Callable[[], float] = time.monotonic, ended: Callable[[bytes], None] = lambda _: None) -> None:
        self._now = now
        self.ended = ended
        # Digests, the oldest first, and when each ends.
        self._codes: dict[bytes, float] = {}
        self._sessions: dict[bytes, float] = {}

    def mint(self) -> str:
        """A new code.  The oldest goes where too many wait."""
        return self._add(self._codes, CODES_MAX, CODE_SECONDS)

    def exchange(self, code: str) -> str | None:
        """The token of a new session; None for a code that never was one, was used, or is too old."""
        found = self._find(self._codes, code)
        if found is None:
            return None
        del self._codes[found]
        return self._add(self._sessions, SESSIONS_MAX, SESSION_SECONDS)

    def known(self, token: str) -> bytes | None:
        """The session that has this token, None for none; it lives on by being used."""
        found = self._find(self._sessions, token)
        if found is not None:
            self.use(found)
        return found

    def use(self, session: bytes) -> None:
        """It lives on, if it lives."""
        if self._sessions.pop(session, None) is not None:
            self._sessions[session] = self._now() + SESSION_SECONDS

    def end(self, session: bytes) -> None:
        """Its token is one no more."""
        self._remove(self._sessions, session)

    def _add(self, table: dict[bytes, float], most: int, seconds: float) -> str:
        self._expire(table)
        while len(table) >= most:
            self._remove(table, next(iter(table)))
        text = secrets.token_urlsafe(_BYTES)
        table[_digest(text)] = self._now() + seconds
        return text

    def _find(self, table: dict[bytes, float], text: str) -> bytes | None:
        self._expire(table)
        wanted = _digest(text)
        found = None
        for digest in table:
            if hmac.compare_digest(digest, wanted):
                found = digest
        return found

    def _expire(self, table: dict[bytes, float]) -> None:
        now = self._now()
        for digest in [digest for digest, end in table.items() if end <= now]:
            self._remove(table, digest)

    def _remove(self, table: dict[bytes, float], digest: bytes) -> None:
        if table.pop(digest, None) is not None and table is self._sessions:
            self.ended(digest)


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).digest()
