"""`ratite sweep`: combinations, seeds, rows, and what can run a failed one again; in a local pool and on a dask cluster."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ratite.clients import fleet
from ratite.clients.cli import main, sweep
from ratite.clients.cli.kit import Mistake

ROOT = Path(__file__).parents[2]
COMMAND = (sys.executable, "-m", "ratite.clients.cli")

BOARD = """
ratite: 1
parameters:
  seed: {type: int, default: 0}
  guest: {type: str, default: hello}
include:
  - profile: riscv-virt/minimal@1
    with: {image: '$("panic" if seed == 2 else guest).rv64.elf'}
"""


@pytest.fixture
def board(tmp_path: Path, elf: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine file in the present folder, whose guest depends on the seed: that of seed 2 panics."""
    for name in ("hello", "panic", "echo"):
        (tmp_path / f"{name}.rv64.elf").symlink_to(elf / f"{name}.rv64.elf")
    (tmp_path / "board.yaml").write_text(BOARD)
    monkeypatch.chdir(tmp_path)
    return tmp_path / "board.yaml"


def swept(*words: str) -> tuple[int, list[dict[str, Any]], str]:
    """Status, rows by number, stderr."""
    done = subprocess.run([*COMMAND, "sweep", *words], capture_output=True, text=True, timeout=300)
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    return done.returncode, sorted(rows, key=lambda row: row["run"]), done.stderr


def test_seeds_and_a_failure_that_is_run_again(board: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, rows, told = swept("board.yaml", "--seeds", "1-3", "--expect-text", "from rv64", "--timeout", "60", "--jobs", "2")
    assert (status, told) == (1, "3 runs of 3: 2 expected, 1 panicked\n")
    assert [(row["run"], row["seed"], row["result"], row["exit-status"]) for row in rows] == [
        (0, 1, "expected", 0), (1, 2, "panicked", 6), (2, 3, "expected", 0),
    ]  # fmt: skip
    good, bad, _ = rows
    assert good["text"] == "from rv64" and good["parameters"] == {"seed": "1"} and good["instructions"] > 0
    assert good["seconds"] > 0 and "again" not in good and "console" not in good
    assert bad["console"] == "panic\n" and bad["why"] == "the guest has panicked, and 'from rv64' never came"
    place, _, again = bad["again"].partition(" && ")
    assert shlex.split(place) == ["cd", str(board.parent)]
    words = shlex.split(again)
    assert words[:3] == ["ratite", "run", "board.yaml"]
    assert main.main(words[1:]) == 6, "it is the same run"
    assert capsys.readouterr().out == "panic\n"


def test_combinations(board: Path) -> None:
    out = board.parent / "rows"
    words = ("--set", "guest=hello,echo", "--repeat", "2", "-e", "hello", "-f", "echo", "-o", str(out))
    status, rows, _ = swept("board.yaml", *words)
    assert status == 1 and rows == []
    rows = sorted(map(json.loads, out.read_text().splitlines()), key=lambda row: row["run"])
    assert [(row["parameters"], row["seed"], row["result"]) for row in rows] == [
        ({"guest": "hello"}, None, "expected"), ({"guest": "hello"}, None, "expected"),
        ({"guest": "echo"}, None, "failed-text"), ({"guest": "echo"}, None, "failed-text"),
    ]  # fmt: skip


def test_a_profile_without_texts_and_the_first_failure(elf: Path) -> None:
    status, rows, told = swept("riscv-virt/minimal", "-s", f"image=/nowhere.elf,{elf}/hello.rv64.elf", "-j", "1", "-x")
    assert status == 1 and "1 run of 2: 1 not-made" in told
    (row,) = rows
    assert row["result"] == "not-made" and "Could not open '/nowhere.elf'" in row["why"]
    assert "ratite run riscv-virt/minimal@1 --set image=/nowhere.elf" in row["again"], "with its version"
    (row,) = fleet.run_local([fleet.Job(7, "riscv-virt/minimal", {"image": f"{elf}/hello.rv64.elf"})], 1)
    assert (row["run"], row["result"], row["guest-code"], row["console"]) == (7, "ended", 0, "hello from rv64\n")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_sweep_that_is_ended_ends_its_machines(board: Path, runtime: Path, number: int) -> None:
    words = [*COMMAND, "sweep", "board.yaml", "--set", "guest=hello,echo", "-j", "1"]  # echo never ends
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stderr is not None
        assert json.loads(process.stdout.readline())["result"] == "ended"
        process.send_signal(number)
        told = process.stderr.read()
        assert process.wait(60) == 128 + number and "1 run of 2: 1 ended" in told and "Traceback" not in told
    assert list((runtime / "ratite" / "machines").iterdir()) == []


@pytest.mark.parametrize(("words", "why"), [
    (["riscv-virt/minimal", "--seeds", "9"], "--repeat runs a machine often that has none"),
    (["board.yaml", "--seeds", "many"], "--seeds must be a number or a range like 100-199, not 'many'"),
    (["board.yaml", "--seeds", "9-1"], "--seeds 9-1 names no seed"),
    (["board.yaml", "--seeds", "2", "--set", "seed=1"], "exclude each other"),
    (["board.yaml", "--seeds", "9999999"], "these are 9999999 runs, more than 1000000"),
    (["board.yaml", "--set", "guest=a,b", "--set", "gest=c"], "there is no such parameter (did you mean 'guest'?)"),
    (["board.yaml", "--seeds", "1", "-o", "/nowhere/x"], "/nowhere/x: No such file or directory"),
])  # fmt: skip
def test_mistakes(words: list[str], why: str, board: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    assert main.main(["sweep", *words]) == 2
    assert why in capsys.readouterr().err
    for known, handler in before.items():
        signal.signal(known, handler)


@pytest.mark.parametrize(("text", "values"), [
    ("a,b", ["a", "b"]), ("a", ["a"]), ("", [""]), ("a,,b", ["a", "", "b"]), (r"x\,y,z", ["x,y", "z"]),
    (r"C:\d,e", [r"C:\d", "e"]),
])  # fmt: skip
def test_values(text: str, values: list[str]) -> None:
    assert sweep._split(text) == values


def test_on_a_cluster(board: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two workers, processes of their own, in another folder than the sweep's."""
    distributed = pytest.importorskip("distributed", reason="dask.distributed is missing (ratite[dask])")
    folder = os.getcwd()
    monkeypatch.chdir("/")
    with distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address="127.0.0.1:0") as cluster:
        monkeypatch.chdir(folder)
        words = ["board.yaml", "--seeds", "4", "-e", "from rv64", "--dask", cluster.scheduler_address]
        status, rows, told = swept(*words)
    assert (status, [row["result"] for row in rows]) == (1, ["expected", "expected", "panicked", "expected"]), (rows, told)
    assert all(row["instructions"] > 0 for row in rows)


def test_without_dask(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(Mistake, match=r"pip install 'ratite\[dask\]'"):
        list(fleet.run_dask([], "tcp://127.0.0.1:1"))
