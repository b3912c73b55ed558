"""The guests on our boards: each boots, takes interrupts, rewrites its own code and computes what the host computes."""

from __future__ import annotations

import re
import time
from pathlib import Path

import pytest
from guest_run import Guest

RISCV = ["rv64", "rv32"]
MICROBLAZE = ["mb", "mbel"]
PETALOGIX = ["s3adsp1800", "ml605"]


@pytest.mark.parametrize("board", RISCV + MICROBLAZE + PETALOGIX)
def test_hello(board: str, tmp_path: Path) -> None:
    with Guest("hello", board, tmp_path) as guest:
        guest.start()
        assert guest.wait_text("\n") == f"hello from {board}\n"
        if board not in PETALOGIX:
            event = guest.client.wait_event("SHUTDOWN")
            assert event["data"] == {"guest": True, "reason": "guest-shutdown", "code": 0}
            assert guest.instructions() > 100


@pytest.mark.parametrize("board", RISCV + MICROBLAZE)
def test_hello_under_the_reference_evaluator(board: str, tmp_path: Path) -> None:
    with Guest("hello", board, tmp_path, accel="interp") as guest:
        guest.start()
        assert guest.wait_text("\n") == f"hello from {board}\n"
        guest.client.wait_event("SHUTDOWN")


@pytest.mark.parametrize("board", RISCV + MICROBLAZE + PETALOGIX)
def test_twenty_timer_interrupts(board: str, tmp_path: Path) -> None:
    with Guest("irq", board, tmp_path, timer=True) as guest:
        guest.start()
        text = guest.wait_text("strays 0\n")
        # on a busy host more may come before the guest has stopped its timer; none is lost, none is a stray
        ticks = re.search(r"ticks (\d+) strays 0\n", text)
        assert ticks is not None and 20 <= int(ticks[1]) < 60, text


@pytest.mark.parametrize("board", RISCV + MICROBLAZE + PETALOGIX)
def test_code_that_writes_code(board: str, tmp_path: Path) -> None:
    with Guest("smc", board, tmp_path) as guest:
        guest.start()
        assert guest.wait_text("own page 50/50\n") == "smc\nfenced 100/100\nunfenced 100/100\nown page 50/50\n"


@pytest.mark.parametrize("board", RISCV + PETALOGIX)
def test_the_mix_computes_what_the_host_computes(board: str, tmp_path: Path) -> None:
    with Guest("mix-short", board, tmp_path) as guest:
        guest.start()
        assert guest.wait_text("@@DONE f14067e3\n", timeout=60).count("\n") == 10


@pytest.mark.parametrize("board", RISCV + MICROBLAZE)
def test_the_console_goes_both_ways(board: str, tmp_path: Path) -> None:
    with Guest("echo", board, tmp_path) as guest:
        guest.start()
        guest.wait_text("echo\n")
        guest.send("cassowary\nq\n")
        assert guest.wait_text("Q\n") == "echo\nCASSOWARY\nQ\n"


@pytest.mark.parametrize("board", RISCV + MICROBLAZE)
def test_a_guest_resets_its_machine_and_powers_it_off(board: str, tmp_path: Path) -> None:
    with Guest("echo", board, tmp_path) as guest:
        guest.start()
        guest.wait_text("echo\n")
        guest.send("r\n")
        event = guest.client.wait_event("RESET")
        assert event["data"] == {"guest": True, "reason": "guest-reset"}
        guest.wait_text("echo\nR\necho\n")
        assert guest.client.execute("query-status")["status"] == "running"
        guest.send("again\nq\n")
        assert guest.wait_text("Q\n") == "echo\nR\necho\nAGAIN\nQ\n"
        event = guest.client.wait_event("SHUTDOWN")
        assert event["data"] == {"guest": True, "reason": "guest-shutdown", "code": 0}


@pytest.mark.parametrize("board", RISCV)
def test_a_cpu_that_cannot_fetch_its_trap_handler_panics(board: str, tmp_path: Path) -> None:
    with Guest("panic", board, tmp_path) as guest:
        guest.start()
        guest.client.wait_event("GUEST_PANICKED")
        guest.client.wait_event("STOP")
        assert guest.wait_text("panic\n") == "panic\n"
        assert guest.client.execute("query-status")["status"] == "guest-panicked"


@pytest.mark.parametrize("board", RISCV + MICROBLAZE)
def test_stop_cont_reset_of_a_cpu_that_never_sleeps(board: str, tmp_path: Path) -> None:
    with Guest("spin", board, tmp_path) as guest:
        guest.start()
        guest.wait_text("spin\n")
        guest.client.execute("stop")
        first = guest.instructions()
        assert guest.instructions() == first > 0
        guest.client.execute("cont")
        guest.client.execute("system_reset")
        guest.wait_text("spin\nspin\n")
        guest.client.execute("stop")


@pytest.mark.parametrize("board", ["rv64", "ml605"])
def test_what_was_compiled_is_told(board: str, tmp_path: Path) -> None:
    """A loop without end becomes a region; its instructions are counted there."""
    with Guest("spin" if board == "rv64" else "kernels", board, tmp_path) as guest:
        guest.start()
        while True:
            (report,) = guest.client.execute("query-jit")
            (cpu,) = report["cpus"]
            # Tiers are counted before CPUs, which run on meanwhile. Of tier 2 at once where an earlier run left it on disk.
            if cpu["compiled-instructions"] and sum(row["compiled"] for row in report["tiers"]):
                break
            time.sleep(0.05)
        assert [row["tier"] for row in report["tiers"]] == [1, 2]
        assert cpu["instructions"] >= cpu["compiled-instructions"] > 0
        text = guest.client.execute("x-query-jit")["human-readable-text"]
        assert cpu["qom-path"] in text and "tier 1" in text
        shown = guest.client.execute("human-monitor-command", {"command-line": "info jit"})
        assert "tier 1" in shown
