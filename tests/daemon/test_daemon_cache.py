"""`ratite cache`: its refusals, and compiling ahead."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from ratite.core import log as core_log
from ratite.core.engine.cache import SOURCES, ObjectCache
from ratite.daemon.cache import cache


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ObjectCache]:
    """An empty cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    yield ObjectCache(system="")
    core_log.taken_by(None)  # the command has taken the core's lines, as a program of its own


def objects(place: ObjectCache) -> list[str]:
    """Paths of what was compiled; the digests of sources, by which it is found, are beside."""
    return [path for _, _, path in place.files() if Path(path).parent.name != SOURCES]


def test_warming_compiles_once(place: ObjectCache, capsys: pytest.CaptureFixture[str]) -> None:
    assert cache(["warm", "rv32i-riscv-cpu"], place) == 0
    (made,) = objects(place)
    assert re.search(r"rv32i-riscv-cpu for riscv32: ready after \d+\.\d s", capsys.readouterr().out)
    assert cache(["warm", "rv32i-riscv-cpu"], place) == 0
    assert objects(place) == [made], "it was there"


def test_other_properties_are_another_interpreter(place: ObjectCache) -> None:
    assert cache(["warm", "rv32i-riscv-cpu", "rv32i-riscv-cpu,zicond=on"], place) == 0
    assert len(objects(place)) == 2


@pytest.mark.parametrize(("model", "why"), [
    ("no-such-cpu", "no-such-cpu is no CPU type"),
    ("ns16550", "ns16550 is no CPU type"),
    ("cpu", "cpu is no CPU type"),
    ("rv32i-riscv-cpu,speed=9", "rv32i-riscv-cpu,speed=9 for riscv32: Property 'rv32i-riscv-cpu.speed' not found"),
])  # fmt: skip
def test_what_is_no_cpu_is_named(place: ObjectCache, model: str, why: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cache(["warm", model], place) == 1
    assert why in capsys.readouterr().err and not place.files()


@pytest.mark.parametrize("given", [["trim"], ["trim", "-3"], ["trim", "x"], ["trim", "1", "2"], ["stat", "now"], ["grow"]])
def test_wrong_words_are_refused(place: ObjectCache, given: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cache(given, place)
    assert ended.value.code == 2


def test_clear_and_trim(place: ObjectCache, capsys: pytest.CaptureFixture[str]) -> None:
    for key in "a" * 64, "b" * 64:
        place.store(key, bytes(1 << 20))
    assert cache(["trim", "1"], place) == 0 and len(place.files()) == 0  # with its head each is a little more than 1 MiB
    place.store("c" * 64, b"object")
    assert cache(["clear"], place) == 0 and not place.files()
    assert "1 files removed" in capsys.readouterr().out


def test_a_place_that_is_not_used_is_told(place: ObjectCache, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place.store("a" * 64, b"object")
    assert cache(["stat"], place) == 0 and "1 files" in capsys.readouterr().out
    Path(place.user).chmod(0o777)
    assert cache(["stat"], place) == 0 and "not used" in capsys.readouterr().out
    assert cache(["stat", "--json"], place) == 0 and '"usable": false' in capsys.readouterr().out
    assert cache(["clear"], place) == 0 and (Path(place.user) / ("a" * 64)).exists()


def test_the_systems_place(place: ObjectCache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ratite.daemon.cache.SYSTEM", str(tmp_path / "var" / "ratite"))
    monkeypatch.setattr("os.geteuid", lambda: 0)
    assert cache(["warm", "--system", "rv32i-riscv-cpu"], place) == 0
    made = [path for path in (tmp_path / "var" / "ratite").iterdir() if path.name != SOURCES]
    assert not place.files() and len(made) == 1
    for words in (["clear", "--system"], ["warm", "--system"]):
        monkeypatch.setattr("os.geteuid", lambda: 1000)
        with pytest.raises(SystemExit):
            cache(words, place)
