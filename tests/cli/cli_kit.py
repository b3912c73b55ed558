"""Helpers of the command line's tests: `ratite` as a process, and in a pseudo-terminal."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from tests import terminal

ROOT = Path(__file__).parents[2]
ELF = ROOT / "tests" / "guests" / "elf"
PROFILE = "riscv-virt/minimal"
COMMAND = (sys.executable, "-m", "ratite.clients.cli")


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


class Terminal(terminal.Terminal):
    """`ratite WORDS` in a pseudo-terminal, or another `command`."""

    def __init__(self, *words: object, rows: int = 40, columns: int = 120, command: Sequence[str] = COMMAND) -> None:
        super().__init__([*command, *words], {**environment(), "PROMPT_TOOLKIT_NO_CPR": "1"}, rows, columns)
