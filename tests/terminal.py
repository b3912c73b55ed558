"""A program in a pseudo-terminal, for tests that sit at it."""

from __future__ import annotations

import os
import pty
import re
import select
import signal
import time
from collections.abc import Mapping, Sequence

_ESCAPES = re.compile(r"\x1b(\[[0-9;?]*[ -/]*[@-~]|\][^\x07]*\x07|[=>]|\([A-Z0-9])")


class Terminal:
    """See the module's head.  `text` is what it has shown, without escape sequences."""

    def __init__(self, command: Sequence[object], env: Mapping[str, str], rows: int = 40, columns: int = 120) -> None:
        self.text = ""
        self._at = 0
        self.pid, self._fd = pty.fork()
        if self.pid == 0:  # the terminal's
            words = [str(word) for word in command]
            os.execvpe(words[0], words, {**env, "TERM": "xterm", "LINES": str(rows), "COLUMNS": str(columns)})
        import fcntl
        import struct
        import termios

        fcntl.ioctl(self._fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *exception: object) -> None:
        if self.pid:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
        os.close(self._fd)

    def flags(self) -> int:
        """The terminal's local modes, as termios has them."""
        import termios

        flags: int = termios.tcgetattr(self._fd)[3]
        return flags

    def send(self, text: str) -> None:
        """Keys."""
        os.write(self._fd, text.encode())

    def expect(self, text: str, timeout: float = 60) -> str:
        """Read until `text` comes (behind what was expected before); all that came before it."""
        end = time.monotonic() + timeout
        while (at := self.text.find(text, self._at)) < 0:
            assert time.monotonic() < end and self._read(end), f"{text!r} never came; there was {self.text[self._at :]!r}"
        came, self._at = self.text[self._at : at], at + len(text)
        return came

    def _read(self, end: float) -> bool:
        if not select.select([self._fd], [], [], max(0, end - time.monotonic()))[0]:
            return False
        try:
            data = os.read(self._fd, 1 << 16)
        except OSError:  # the other end is closed
            return False
        self.text = _ESCAPES.sub("", self.text + data.decode(errors="replace"))
        return bool(data)

    def ended(self, timeout: float = 60) -> int:
        """Its exit status, once it has ended."""
        end = time.monotonic() + timeout
        while self._read(end):
            pass
        assert time.monotonic() < end, f"it never ended; there was {self.text[self._at :]!r}"
        _, status = os.waitpid(self.pid, 0)
        self.pid = 0
        return os.waitstatus_to_exitcode(status)
