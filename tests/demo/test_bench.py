"""The bench: its arithmetic, and that a peer which isn't installed is named and left out."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest

from ratite.clients.bench import coremark, main, parallel, qmp, short
from ratite.clients.bench.mix import Guest, Run, Timer, run_program, under_ratite
from ratite.clients.bench.report import Row, table, together


def test_ratio_says_how_much_better_we_are() -> None:
    assert Row("", "ms", [2.0], [4.0], "peer", False).ratio == 2
    assert Row("", "MIPS", [2.0], [4.0], "peer", True).ratio == 0.5
    assert Row("", "MIPS", [2.0], [], "not installed", True).ratio is None


def test_goals() -> None:
    assert Row("", "x", [1.7, 1.9, 1.8], [], "", True, 1.8).met is True
    assert Row("", "x", [1.7], [], "", True, 1.8).met is False
    assert Row("", "x", [1.7], [], "", True).met is None
    assert "1.8 NOT MET" in table([Row("two", "x", [1.7], [], "", True, 1.8)])


def test_a_missing_peer_is_named_and_skipped(tmp_path: Path) -> None:
    samples = tmp_path / "samples.json"
    command = [sys.executable, "-m", "ratite.bench", "monitor", "--starts", "2", "--json", str(samples)]
    run = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PATH": str(tmp_path)})
    assert run.returncode == 0, run.stderr
    assert "qemu-system-riscv64 is not installed" in run.stdout
    assert "exec to first reply" in run.stdout
    rows = json.loads(samples.read_text())["rows"]
    assert len(rows) == 5 and all(row["ours"] and not row["theirs"] for row in rows)


def test_coremark_is_left_out_by_name_where_it_was_not_built(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(coremark, "BUILT", tmp_path)
    assert main.main(["coremark", "--no-peer"]) == 0
    text = capsys.readouterr().out
    for board in coremark.BOARDS:
        assert f"coremark on {board} is left out: not built" in text


def test_four_harts_are_left_out_by_name_where_their_guest_is_missing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main.main(["harts", "--no-peer", "--folder", str(tmp_path)]) == 0
    text = capsys.readouterr().out
    assert f"harts is left out: {tmp_path}" in text and "is missing" in text


def test_a_short_run_ends_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(short, "PROGRAMS", ("mix-short",))
    (row,) = short.measure(1, "", lambda text: None, lambda program: None)
    assert row.name == "mix-short on rv64, exec to exit" and row.ours[0] > 0 and row.met is None


def test_what_computes_beside_a_guest_must_outlast_it() -> None:
    (run,) = under_ratite(["rv64"], Guest("mix-short"), "", beside=[("s3adsp1800", Guest("mix"))])
    assert run.checksum == "f14067e3" and run.instructions > 1_000_000
    with pytest.raises(RuntimeError, match="ended before"):
        under_ratite(["s3adsp1800"], Guest("mix"), "", beside=[("rv64", Guest("mix-short"))])


def test_a_folder_without_coremark_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match=r"no .*coremark"):
        coremark.build(tmp_path, tmp_path / "out")


def test_cpu_time_of_a_program_that_ended_at_its_last_line() -> None:
    burn = (
        "import threading, time\n"
        "def work():\n"
        "    while time.thread_time() < 0.2: pass\n"
        "print('@@START', flush=True)\n"
        "thread = threading.Thread(target=work); thread.start(); thread.join()\n"
        "print('@@DONE 7', flush=True)\n"
    )
    run = run_program([sys.executable, "-I", "-c", burn])
    assert run.checksum == "7"
    assert run.busy >= 0.2


REPORT = """@@START
iterate ends
2K performance run parameters for coremark.
[0]crcfinal      : 0x5275
Correct operation validated. See README.md for run and reporting rules.
@@DONE 0
"""


def marked(text: str) -> Run:
    timer = Timer()
    for line in text.splitlines(keepends=True):
        timer.take(line.encode())
    return timer.run()


def test_coremark_is_taken_at_its_own_word() -> None:
    run = coremark.checked(marked(REPORT), "it", False)
    assert run.checksum == "0x5275"
    assert 0 < run.seconds < marked(REPORT).seconds + 1
    brief = REPORT.replace("Correct operation validated", "ERROR! Must execute for at least 10 secs")
    assert coremark.checked(marked(brief), "it", True).checksum == "0x5275"
    wrong = REPORT.replace("[0]crc", "[0]ERROR! list crc 0x0000 - should be 0xe714\n[0]crc")
    for text, brisk in (brief, False), (wrong, True), (REPORT.replace("2K perf", "6k perf"), True):
        with pytest.raises(RuntimeError, match="it is not valid"):
            coremark.checked(marked(text), "it", brisk)


# Not CoreMark: what stands in for its five files uses all that a port has to give, and reports in the same form.
STAND_IN = """#include "coremark.h"
int main(void)
{
    core_portable port;
    int count = 0;
    char *none[1];
    portable_init(&port, &count, none);
    ee_u32 crc = (ee_u32)(portme_sys1() + portme_sys2() + portme_sys3() + portme_sys5());
    start_time();
    for (ee_s32 i = 0; i < portme_sys4(); i++)
        crc = (crc * 33 + (ee_u32)i) & 0xffff;
    stop_time();
    ee_printf("2K performance run parameters for coremark.\\n");
    ee_printf("%d %d %lu %u|%s|%c|%04x|%3d\\n", -7, 8, 4000000000ul, 5u, "text", 'c', 0x2au, 6);
    ee_printf("ticks %d, seconds %u\\n", get_time() > 0, (ee_u32)time_in_secs(get_time()));
    ee_printf("[0]crcfinal      : 0x%04x\\n", crc);
    portable_fini(&port);
    return (int)default_num_contexts - 1;
}
"""
STAND_IN_HEADER = """#define SEED_ARG 0
#define SEED_FUNC 1
#define SEED_VOLATILE 2
#define MEM_STATIC 0
#define MEM_MALLOC 1
#define MEM_STACK 2
#include "core_portme.h"
typedef ee_u32 secs_ret;
void start_time(void);
void stop_time(void);
CORE_TICKS get_time(void);
secs_ret time_in_secs(CORE_TICKS ticks);
"""


@pytest.fixture
def stand_in(tmp_path: Path) -> Path:
    for name in "list_join", "main", "matrix", "state", "util":
        (tmp_path / f"core_{name}.c").write_text(STAND_IN if name == "main" else "")
    (tmp_path / "coremark.h").write_text(STAND_IN_HEADER)
    return tmp_path


@pytest.mark.skipif(shutil.which("cc") is None or shutil.which("make") is None, reason="no cc or no make")
def test_the_port_on_the_host(stand_in: Path) -> None:
    coremark.build(stand_in, stand_in / "out")
    run = coremark.native(1000, stand_in / "out")
    assert run is not None
    assert "-7 8 4000000000 5|text|c|002a|  6" in run.text
    assert "ticks 1, seconds 0" in run.text
    assert coremark.checked(run, "the host", True).parts.keys() >= {"iterate"}


@pytest.mark.skipif(shutil.which("riscv64-unknown-elf-gcc") is None, reason="no riscv64-unknown-elf-gcc")
def test_the_bench_runs_what_was_built(stand_in: Path) -> None:
    coremark.build(stand_in, stand_in / "out")
    rows = coremark.measure(["rv64"], 1, "interp", True, lambda text: None, lambda program: None, stand_in / "out")
    names = [row.name for row in rows]
    assert names[:2] == ["coremark on rv64, cold", "coremark on rv64, warm"]
    assert all(row.ours and row.goal is None for row in rows)


@pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler")
def test_round_trips_are_timed_in_c(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(qmp, "TRIPS", tuple(trip._replace(times=3) for trip in qmp.TRIPS))
    monkeypatch.setattr(qmp, "PIPELINED", 50)
    samples = tmp_path / "samples.json"
    assert main.main(["qmp", "--no-peer", "--starts", "1", "--json", str(samples)]) == 0
    rows = json.loads(samples.read_text())["rows"]
    assert len(rows) == len(qmp.TRIPS) + 1 and all(row["ours"][0] > 0 for row in rows)


def test_without_a_c_compiler_round_trips_are_left_out_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert main.main(["qmp", "--no-peer"]) == 0
    assert "qmp is left out: a C compiler (cc) is needed" in capsys.readouterr().out


def test_all_that_computes_is_judged_together() -> None:
    alone = Row("c", "s", [1.0], [], "", False)
    rows = [Row("a", "s", [1.0], [4.0], "peer", False), Row("b", "MIPS", [10.0], [10.0], "peer", True), alone]
    mean, least = together("both", rows, (2.5, 0.5))
    assert (mean.ours, mean.met) == ([2.0], False) and (least.ours, least.met) == ([1.0], True)
    assert together("nothing to compare with", [alone], None) == []


def test_a_gain_is_against_one_worker_before_and_after(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that code that gets faster meanwhile is no gain: here all is done by one core, and each round takes a tenth less."""
    now, speed, lines = [0.0], [1.0], []

    def ask(line: str, answer: str) -> None:
        workers = len(line.partition(";")[0].split()) - 3
        now[0] += workers * speed[0]
        speed[0] -= 0.05
        lines.append(workers)

    monkeypatch.setattr(parallel, "time", SimpleNamespace(perf_counter=lambda: now[0]))
    rounds = parallel.Rounds()
    rounds.work(10, SimpleNamespace(ask=ask))  # type: ignore[arg-type]
    assert lines == [1, 4] * parallel.WARM + [1] + [4, 1] * parallel.ROUNDS
    assert rounds.gains == pytest.approx([1.0] * parallel.ROUNDS)


def test_turns_give_the_same_share_in_either_order() -> None:
    order: list[str] = []

    def taking(name: str, seconds: float) -> float:
        order.append(name)
        return seconds

    shares = [parallel._share(partial(taking, "alone", 1.0), partial(taking, "both", 2.0), turned) for turned in (False, True)]
    assert shares == [0.5, 0.5] and order == ["alone", "both", "both", "alone"]
