"""The demo passes; with one bit of one byte of either program turned it fails, wherever the byte is."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import pytest

from ratite.clients import demo

RV, MB = demo.GUESTS / "demo-rv.rv64.elf", demo.GUESTS / "demo-mb.mb.elf"


def run_demo(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "ratite.clients.demo", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


def test_both_guests_report_the_right_result() -> None:
    seed = int.from_bytes(os.urandom(8), "little")
    run = run_demo("--rounds", "300", "--stall", "120", "--seed", str(seed))
    assert run.returncode == 0, run.stdout + run.stderr
    assert f"rv64: ready, seed {seed:016x}" in run.stdout
    assert "rv64: RESULT rounds 300" in run.stdout and "mb:   RESULT rounds 300" in run.stdout
    assert "MIPS" in run.stdout and "300 rounds in" in run.stdout


def places() -> list[str]:
    """Bytes in the first and last word, in the middle and in the constants of both programs."""
    found = []
    for name, elf in ("rv", RV), ("mb", MB):
        part = demo.segment(elf)
        for offset in (0, len(part.data) // 3, len(part.data) // 2, len(part.data) - 20, len(part.data) - 1):
            found.append(f"{name}:{part.address + offset:#x}")
    return found


@pytest.mark.parametrize("place", places())
def test_one_flipped_byte_fails(place: str) -> None:
    run = run_demo("--rounds", "20", "--stall", "3", "--flip", place)
    assert run.returncode == 1, run.stdout + run.stderr
    assert "demo: FAILED" in run.stderr


@pytest.mark.parametrize("elf", [RV, MB])
def test_a_flipped_copy_differs_in_one_bit_of_what_is_loaded(elf: Path, tmp_path: Path) -> None:
    part = demo.segment(elf)
    copy = demo.flipped(elf, part.address + 5, tmp_path / "copy.elf")
    changed = demo.segment(copy)
    assert [a ^ b for a, b in zip(part.data, changed.data, strict=True) if a != b] == [1]
    with pytest.raises(demo.DemoError, match="must be in the image"):
        demo.flipped(elf, part.address + len(part.data), tmp_path / "other.elf")


def test_what_the_guests_must_report() -> None:
    """One round by hand, from the protocol's text."""
    seed, rv_crc, mb_crc = 0x0123456789ABCDEF, zlib.crc32(b"rv"), zlib.crc32(b"mb")
    chain = seed ^ (rv_crc << 32 | rv_crc)
    chain = (chain * 6364136223846793005 + 1442695040888963407) % 2**64
    crc = zlib.crc32(struct.pack("<Q", chain ^ chain >> 29), mb_crc)
    chain ^= crc << 32 | (crc ^ 1)
    expected = demo.expect(demo.Config(1, seed, 1, 8), b"rv", b"mb")
    assert expected.rv_result == (1, 1, chain, rv_crc)
    assert expected.mb_result == (1, 1, crc, mb_crc)
    assert expected.lines[1] == f"rv64: round 1, chain {chain:016x}"
    assert len(expected.lines) == 5


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("--flip", "pc:0"), "--flip must be rv:ADDR or mb:ADDR"),
        (("--flip", "rv:0"), "must be in the image"),
        (("--guests", "/nowhere"), "there is no guest"),
    ],
)
def test_refusals_say_what_is_wrong(arguments: tuple[str, ...], text: str) -> None:
    run = run_demo("--rounds", "1", *arguments)
    assert run.returncode == 1 and text in run.stderr
