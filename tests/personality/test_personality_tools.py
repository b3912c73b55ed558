"""The tools of qemu.qmp at a terminal, as people use them: qmp-shell, qmp-shell -H, qmp-shell-wrap, qmp-tui."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from personality_kit import Shims

from ratite.clients.qmp import Client, DaemonProcess
from tests.terminal import Terminal

pytest.importorskip("qemu.qmp")

MACHINE = ("-M", "virt", "-m", "64", "-S", "-display", "none", "-nodefaults", "-no-user-config")


@pytest.fixture(params=["ratited", "shim"])
def server(request: pytest.FixtureRequest, shims: Shims, tmp_path: Path) -> Iterator[str]:
    """The path of a monitor: the daemon's own, and one of a program in QEMU's place."""
    path = str(tmp_path / "qmp")
    if request.param == "ratited":
        with DaemonProcess(path) as process:
            process.client().close()
            yield path
    else:
        shims.background("riscv64", *MACHINE, "-qmp", f"unix:{path},server=on,wait=off")
        yield path


def tool(place: Path, function: str, *words: object) -> Terminal:
    """A tool by its entry point, with a home of its own."""
    module, _, name = function.partition(":")
    program = f"import sys; from qemu.qmp.{module} import {name}; sys.exit({name}())"
    kept = {name: value for name, value in os.environ.items() if name in ("PATH", "XDG_CACHE_HOME")}
    # Its own warnings are its own affair.
    env = {**kept, "HOME": str(place), "PYTHONPATH": str(Path(__file__).parents[2]), "PYTHONWARNINGS": "ignore"}
    os.chdir(place)
    return Terminal([sys.executable, "-c", program, *words], env)


@pytest.fixture(autouse=True)
def back(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A tool that listens does so in the working directory."""
    monkeypatch.chdir(tmp_path)


def ask(shell: Terminal, prompt: str, line: str) -> str:
    """What comes between a line and the next prompt."""
    shell.send(f"{line}\n")
    shell.expect(line.rpartition("\t")[2])
    return shell.expect(prompt)


def test_qmp_shell(server: str, tmp_path: Path) -> None:
    with tool(tmp_path, "qmp_shell:main", server) as shell:
        shell.expect("Connected to QEMU 10.0.")
        shell.expect("(QEMU) ")
        assert '"status": "prelaunch"' in ask(shell, "(QEMU) ", "query-status")
        # Its completion comes from query-commands.
        assert '"QMP"' not in ask(shell, "(QEMU) ", "query-vers\tion")
        assert '"return"' in ask(shell, "(QEMU) ", "qom-list-types implements=device abstract=false")
        assert "CommandNotFound" in ask(shell, "(QEMU) ", "no-such-command")
        assert '{"return": {}}' in ask(shell, "(QEMU) ", "quit")
        shell.send("\x04")
        shell.ended()


def test_qmp_shell_pretty_and_verbose(server: str, tmp_path: Path) -> None:
    with tool(tmp_path, "qmp_shell:main", "-p", "-v", server) as shell:
        shell.expect("(QEMU) ")
        text = ask(shell, "(QEMU) ", "query-name")
        assert '"execute": "query-name"' in text
        assert '"arguments": {}' in text


def test_qmp_shell_for_the_human_monitor(server: str, tmp_path: Path) -> None:
    with tool(tmp_path, "qmp_shell:main", "-H", server) as shell:
        shell.expect("Welcome to the HMP shell!")
        shell.expect("(QEMU) ")
        assert "VM status: paused (prelaunch)" in ask(shell, "(QEMU) ", "info status")
        # The tab key knows topics from `info` and commands from `help`.
        shell.send("info versi\t")
        shell.expect("info version")
        shell.send("\n")
        assert "10.0." in shell.expect("(QEMU) ")
        shell.send("help info stat\t")
        shell.send("\n")
        shell.expect("(QEMU) ")
        assert "cont|c  -- resume emulation" in ask(shell, "(QEMU) ", "help cont")
        assert "unknown command: 'nope'" in ask(shell, "(QEMU) ", "nope")


@pytest.mark.parametrize("words", [(), ("-H",)])
def test_qmp_shell_wrap(shims: Shims, tmp_path: Path, words: tuple[str, ...]) -> None:
    with tool(tmp_path, "qmp_shell:main_wrap", *words, shims.path("riscv64"), *MACHINE) as shell:
        shell.expect("(QEMU) ")
        text = ask(shell, "(QEMU) ", "info status" if words else "query-status")
        assert "prelaunch" in text
        ask(shell, "(QEMU) ", "quit")
        shell.send("\x04")
        shell.ended()


def drawn(tui: Terminal, text: str) -> None:
    """Wait until it shows `text`.  It draws after keys only, not when a message has come."""
    for _ in range(100):
        with suppress(AssertionError):
            tui.expect(text, timeout=0.2)
            return
        tui.send(" \x7f")
    raise AssertionError(f"{text!r} never came; there was {tui.text!r}")


def test_qmp_tui(server: str, tmp_path: Path) -> None:
    pytest.importorskip("urwid")
    with tool(tmp_path, "qmp_tui:main", server) as tui:
        drawn(tui, "[Connected")
        tui.send("\x1b[B" * 9)  # out of the history, into the editor
        tui.send('{"execute": "query-status"}')
        drawn(tui, "query-status")
        tui.send("\x1b\r")  # Alt and Enter
        drawn(tui, "prelaunch")
        with Client.connect(f"unix:{server}") as qmp:
            qmp.execute("quit")
        drawn(tui, "SHUTDOWN")
