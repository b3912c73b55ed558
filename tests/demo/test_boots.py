"""`make boots`: its initramfs, its refusals, and real guests from the archive that is in the repository."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from ratite.clients.boots import guests, main
from ratite.clients.boots.caches import CodeCache
from ratite.clients.boots.initramfs import MARKER, initramfs


def members(archive: bytes) -> dict[str, tuple[int, bytes, tuple[int, int]]]:
    """{name: (mode, data, (major, minor))} of a newc archive."""
    found, at = {}, 0
    while True:
        assert archive[at : at + 6] == b"070701"
        numbers = [int(archive[at + 6 + 8 * n : at + 14 + 8 * n], 16) for n in range(13)]
        size, name_size = numbers[6], numbers[11]
        name = archive[at + 110 : at + 110 + name_size - 1].decode()
        at += 110 + name_size + 3 & ~3
        if name == "TRAILER!!!":
            return found
        assert name not in found
        found[name] = (numbers[1], archive[at : at + size], (numbers[9], numbers[10]))
        at += size + 3 & ~3


def test_the_initramfs() -> None:
    made = initramfs(b"\x7fELFbusybox", [("a.ko", b"module")])
    found = members(gzip.decompress(made))
    assert made == initramfs(b"\x7fELFbusybox", [("a.ko", b"module")])
    assert found["dev/console"] == (0o020600, b"", (5, 1)) and found["dev/null"][2] == (1, 3)
    assert found["bin/busybox"][:2] == (0o100755, b"\x7fELFbusybox") and found["bin/sh"][:2] == (0o120777, b"busybox")
    assert found["lib/modules/a.ko"][1] == b"module"
    assert found["init"][0] == 0o100755 and MARKER.encode() in found["init"][1]
    names = list(found)
    assert all(name.rpartition("/")[0] in ("", *names[: names.index(name)]) for name in names), "folders come first"


def test_missing_files_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(["--folder", str(tmp_path), "--guest", "ml605"]) == 2
    assert f"{tmp_path}/vmlinux-le is missing: python -m ratite.clients.boots.guests {tmp_path}" in capsys.readouterr().err


def test_the_mirror_s_line_is_understood(tmp_path: Path) -> None:
    for text, mirror in (
        ("Types: deb\nURIs: http://deb.debian.org/debian\nSuites: bookworm\n", "http://deb.debian.org/debian"),
        ("deb [arch=amd64] https://mirror.example/debian bookworm main\n", "https://mirror.example/debian"),
        ("deb http://mirror.example/debian/ bookworm main\n", "http://mirror.example/debian"),
        ("deb https://packages.example.com/apt stable main\n", ""),
    ):
        assert guests.mirror_in(text) == mirror


@pytest.mark.parametrize("guest", ["s3adsp1800", "ml605"])
def test_microblaze_linux_reaches_its_shell(folder: Path, guest: str, capsys: pytest.CaptureFixture[str]) -> None:
    status = main.main(["--folder", str(folder), "--guest", guest])
    out = capsys.readouterr().out
    assert status == 0 and f"{guest}: 1 of 1 boots reached the shell" in out, out


def test_boots_with_caches_of_their_own(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """The first run compiles tier 0 and says so while it does; the next one finds it."""
    status = main.main(["--folder", str(folder), "--guest", "ml605", "--cache", "first", "cold"])
    out, err = capfd.readouterr()
    assert status == 0, out
    assert "ml605 first: 1 of 1 boots reached the shell" in out and "ml605 cold: 1 of 1 boots reached the shell" in out
    assert "ml605 cold: 1 boots to fill its cache, not counted" in out
    starts, ends = (err.count(f'event="native code is {text}') for text in ("compiled, once for this host", "ready"))
    assert starts == ends == 2, err  # the first one, and the one that fills the folder


def test_what_a_cache_keeps_for_a_boot(tmp_path: Path) -> None:
    for state, left in ("first", set()), ("cold", {"object"}), ("warm", {"object", "regions-1"}):
        cache = CodeCache(state, tmp_path)
        cache.prepare()
        assert cache.environment is not None
        home = Path(cache.environment["XDG_CACHE_HOME"])
        assert home.stat().st_mode & 0o777 == 0o700
        (home / "ratite" / "regions-1").mkdir(parents=True)
        (home / "ratite" / "object").touch()
        cache.prepare()
        assert {path.name for path in home.glob("ratite/*")} == left
    assert CodeCache("user", tmp_path).environment is None


def test_a_guest_that_says_nothing_fails(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(["--folder", str(folder), "--guest", "ml605", "--append", "rdinit=/none", "--timeout", "3"]) == 1
    out = capsys.readouterr().out
    assert "ml605 1: FAILED: " in out and "ml605: 0 of 1 boots reached the shell" in out
