"""Helpers of the command line's tests: `ratite` as a process, and in a pseudo-terminal."""

from __future__ import annotations

import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parents[2]
ELF = ROOT / "tests" / "guests" / "elf"
PROFILE = "riscv-virt/minimal"
COMMAND = (sys.executable, "-m", "ratite.clients.cli")
_ESCAPES = re.compile(r"\x1b(\[[0-9;?]*[ -/]*[@-~]|\][^\x07]*\x07|[=>]|\([A-Z0-9])")


def environment() -> dict[str, str]:
    """For a `ratite` process: this tree's package, wherever it is started."""
    return {**os.environ, "PYTHONPATH": str(ROOT)}


def ratite(*words: object, text: str = "", timeout: float = 120) -> subprocess.CompletedProcess[str]:
    """`ratite WORDS` with `text` on its standard input, to its end."""
    command = [*COMMAND, *map(str, words)]
    return subprocess.run(command, input=text, capture_output=True, text=True, timeout=timeout, env=environment())


def image(name: str) -> tuple[str, str, str]:
    """Words that run a guest on the smallest profile."""
    return PROFILE, "--set", f"image={ELF / name}.rv64.elf"


def mistake(done: subprocess.CompletedProcess[str], why: str) -> None:
    """A user's mistake is one clear line on stderr, without a traceback, and status 2."""
    assert done.returncode == 2, (done.returncode, done.stdout, done.stderr)
    lines = [line for line in done.stderr.splitlines() if not line.startswith("Try '")]
    assert len(lines) == 1 and lines[0].startswith("ratite: ") and why in lines[0], done.stderr
    assert "Traceback" not in done.stderr


class Terminal:
    """`ratite WORDS` in a pseudo-terminal, or another `command`."""

    def __init__(self, *words: object, rows: int = 40, columns: int = 120, command: Sequence[str] = COMMAND) -> None:
        self.text = ""
        self._at = 0
        self.pid, self._fd = pty.fork()
        if self.pid == 0:  # the terminal's
            os.environ.update(environment(), TERM="xterm", PROMPT_TOOLKIT_NO_CPR="1", LINES=str(rows), COLUMNS=str(columns))
            os.execvp(command[0], [*command, *map(str, words)])
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
