"""Machines in a Python program: console, memory, QMP, and how they end."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ratite.clients.cli import places
from ratite.clients.script import Ending, Machine, MachineError, NotPrinted

PROFILE = "riscv-virt/minimal"
RAM = 0x80000000


def test_a_console_and_an_end(elf: Path) -> None:
    with Machine(PROFILE, {"image": elf / "echo.rv64.elf"}, name="mine") as machine:
        assert (machine.name, machine.status()) == ("mine", "running")
        assert machine.console.expect("echo\n").endswith("echo\n")
        machine.console.send("rhea\nemu\nostrich\n")
        assert machine.console.expect(re.compile(r"R(HE)A")) == "RHEA"
        assert machine.console.expect("EMU\n") == "\nEMU\n"
        with pytest.raises(NotPrinted, match="'KIWI' didn't come within 0 s; it printed last: 'echo"):
            machine.console.expect("KIWI", timeout=0)
        with pytest.raises(NotPrinted, match="the console printed 'STRICH' before 'KIWI'"):
            machine.console.expect("KIWI", failing=["STRICH", "@"])
        with pytest.raises(TimeoutError, match="didn't end within 0 s; the machine is running"):
            machine.wait(timeout=0)
        machine.console.send("q\n")
        assert machine.wait() == Ending("shutdown", 0)
        assert machine.console.text == "echo\nRHEA\nEMU\nOSTRICH\nQ\n"
        assert list(machine.instructions()) == ["/machine/peripheral/cpu0"]
        assert machine.read(RAM, 4) != bytes(4), "one can look into a machine that has ended"
        with pytest.raises(NotPrinted, match=r"the machine ended \(shutdown\) before 'more' came"):
            machine.console.expect("more")
    machine.close()
    assert machine.died is False


def test_a_program_that_fails(elf: Path) -> None:
    """A store of 0x73333 to the finisher ends the machine with the code 7."""
    lui_a0_0x100, lui_a1_0x73, addi_a1_a1_0x333, sw_a1_a0 = 0x00100537, 0x000735B7, 0x33358593, 0x00B52023
    with Machine(PROFILE, {"image": elf / "spin.rv64.elf"}, paused=True) as machine:
        program = (lui_a0_0x100, lui_a1_0x73, addi_a1_a1_0x333, sw_a1_a0)
        machine.write(RAM, b"".join(word.to_bytes(4, "little") for word in program))
        machine.qmp.execute("cont")
        assert machine.wait() == Ending("shutdown", 7)


def test_a_guest_that_panics(elf: Path) -> None:
    with Machine(PROFILE, {"image": elf / "panic.rv64.elf"}) as machine:
        assert machine.wait() == Ending("guest-panicked", None)
        assert machine.console.text.endswith("panic\n")


def test_memory(elf: Path) -> None:
    settings = {"image": elf / "echo.rv64.elf", "ram": "2M"}
    with Machine(PROFILE, settings, paused=True) as machine:
        assert machine.status() == "prelaunch"
        data = bytes(range(251)) * 500
        machine.write(RAM + 0x10001, data)
        assert machine.read(RAM + 0x10001, len(data)) == data, "more than one command takes"
        assert machine.read(RAM + 0x10000, 3, space="view") == b"\0\0\1"
        with pytest.raises(MachineError, match="no memory at 0x80200000"):
            machine.read(RAM + 0x1FFFF0, 17)
        with pytest.raises(MachineError, match="a device at 0x10000000"):
            machine.write(0x10000000, b"x")
        with pytest.raises(MachineError, match="no memory at 0x10000000"):
            machine.read(0x10000000, 1)


def test_a_daemon_that_dies(elf: Path) -> None:
    with Machine(PROFILE, {"image": elf / "echo.rv64.elf"}) as machine:
        machine.console.expect("echo")
        os.kill(places.find(machine.name).record["pid"], signal.SIGKILL)
        with pytest.raises(NotPrinted, match=r"the machine ended \(gone\)"):
            machine.console.expect("more")
        assert machine.wait() == Ending("gone", None)
    assert machine.died


def test_a_program_that_dies_leaves_no_machine(elf: Path, tmp_path: Path) -> None:
    program = (
        "import os, signal\n"
        "from ratite.clients.cli import places\n"
        "from ratite.clients.script import Machine\n"
        f"machine = Machine({PROFILE!r}, {{'image': {str(elf / 'echo.rv64.elf')!r}}}, name='orphan')\n"
        "print(places.find('orphan').record['pid'], flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert done.returncode == -signal.SIGKILL
    deadline = time.monotonic() + 30
    with pytest.raises(ProcessLookupError):
        while time.monotonic() < deadline:
            os.kill(int(done.stdout), 0)
            places.local()  # removes what it has left
    assert places.local() == []


@pytest.mark.parametrize(("source", "settings", "why"), [
    ("riscv-virt/nothing", {}, "there is no profile"),
    (PROFILE, {"imge": "x"}, "there is no such parameter"),
    (PROFILE, {"image": "/nowhere.elf"}, "cpu0: Could not open '/nowhere.elf'"),
])  # fmt: skip
def test_what_can_not_be_made(source: str, settings: dict[str, str], why: str) -> None:
    with pytest.raises(MachineError, match=re.escape(why)):
        Machine(source, settings)


def test_a_machine_without_a_console() -> None:
    with Machine(PROFILE, {"console": "pty"}, paused=True) as machine:
        assert machine.printed == ""
        with pytest.raises(MachineError, match="has no console"):
            machine.console.expect("x")
