"""The verbs with a control plane: `serve`, and machines that are its instances."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from cli_kit import COMMAND, ELF, Terminal, environment, mistake, ratite

from ratite.clients.cli import main, remote
from ratite.clients.cli.metrics import samples
from ratite.clients.control import ControlClient, ControlError

pytest.importorskip("aiohttp")

HELLO = ("riscv-virt/minimal", "--set", f"image={ELF / 'hello.rv64.elf'}")
ECHO = ("riscv-virt/minimal", "--set", f"image={ELF / 'echo.rv64.elf'}")


@pytest.fixture
def plane(runtime: Path) -> Iterator[subprocess.Popen[bytes]]:
    """`ratite serve` at the default address."""
    log = runtime / "serve.log"
    with log.open("wb") as out:
        words = [*COMMAND, "serve", "--allow-dir", f"elf={ELF}"]
        process = subprocess.Popen(words, stdout=out, stderr=out, env=environment())
    try:
        while not _answers():
            assert not _ended(process), log.read_text()
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0, log.read_text()


def _answers() -> bool:
    """Whether the control plane listens; its socket is there a moment before."""
    try:
        ControlClient.connect(timeout=60).close()
    except ControlError:
        return False
    return True


def _ended(process: subprocess.Popen[bytes]) -> bool:
    """Whether it ends within a moment."""
    try:
        process.wait(0.02)
    except subprocess.TimeoutExpired:
        return False
    return True


def test_run_in_the_control_plane(plane: subprocess.Popen[bytes]) -> None:
    done = ratite("run", "--control", *HELLO, "--json")
    shown = json.loads(done.stdout)
    assert (done.returncode, shown["result"], shown["console"].replace("\r", "")) == (0, "ended", "hello from rv64\n"), done
    assert json.loads(ratite("ps", "--json").stdout) == []


def test_an_instance_has_the_same_verbs(plane: subprocess.Popen[bytes]) -> None:
    done = ratite("run", "--control", *ECHO, "--detach", "--expect-text", "echo", "--quiet")
    name = done.stdout.strip()
    assert (done.returncode, name) == (0, "riscv-virt-minimal"), done.stderr
    (row,) = json.loads(ratite("ps", "--json").stdout)
    assert (row["name"], row["status"], row["cpus"], row["source"]) == (name, "running", 1, "control plane")
    assert json.loads(ratite("qmp", name, "query-status").stdout)["running"] is True
    done = ratite("qmp", name, "qom-get", "path=/nope", "property=x")
    assert (done.returncode, done.stderr) == (1, "ratite: qom-get: Device '/nope' not found\n")
    assert json.loads(ratite("top", name, "--once", "--json", "-i", "0.1").stdout)["cpus"][0]["state"]
    assert "riscv-virt" not in ratite("dump", name).stdout and "ns16550" in ratite("dump", name).stdout
    done = ratite("console", name, text="hello\nq\n")
    assert done.returncode == 0 and "echo" in done.stdout and "HELLO" in done.stdout
    assert ratite("ps").stdout == ""


class Plane:
    """A control plane that has a console and said all there is at once."""

    def __init__(self) -> None:
        self._ends = socket.socketpair()
        self.notifications = [
            {"method": "console-output", "params": {"console": 1, "data": "TE8K"}},
            {"method": "console-closed", "params": {"console": 1}},
        ]

    def console_attach(self, instance: str, chardev: str) -> dict[str, int]:
        return {"console": 1}

    def next_notification(self, timeout: float) -> object:
        return self.notifications.pop(0)

    def fileno(self) -> int:
        return self._ends[0].fileno()

    def close(self) -> None:
        for end in self._ends:
            end.close()


def test_a_console_that_closes_with_its_last_bytes_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "control", Plane)
    line = remote.RemoteLine("one", "con")
    assert line.buffered and line.read() == b"LO\n"
    assert line.buffered and line.read() is None
    line.close()


def test_metrics(plane: subprocess.Popen[bytes]) -> None:
    assert "# TYPE ratite_info gauge" in ratite("metrics").stdout
    rows = json.loads(ratite("metrics", "--json").stdout)
    assert [row["value"] for row in rows if row["name"] == "ratite_info"] == [1.0]


def test_metrics_as_prometheus_writes_them() -> None:
    text = '# HELP a b\n# TYPE a gauge\na 1\nb{x="1",y="q\\"\\n\\\\"} 2.5e3\n'
    assert list(samples(text)) == [
        {"name": "a", "labels": {}, "value": 1.0},
        {"name": "b", "labels": {"x": "1", "y": 'q"\n\\'}, "value": 2500.0},
    ]


def test_stop_and_names(plane: subprocess.Popen[bytes]) -> None:
    with ControlClient.connect(timeout=60) as control:
        control.instance_create(instance="one")
    mistake(ratite("qmp", "oen", "query-status"), "there is no machine 'oen'; did you mean one?")
    mistake(ratite("run", "--control", *HELLO, "--name", "one"), "one")
    assert ratite("stop", "one").returncode == 0
    mistake(ratite("stop", "one"), "there is no machine 'one'")


def test_a_console_in_a_terminal(plane: subprocess.Popen[bytes]) -> None:
    with Terminal("run", "--control", *ECHO, "--console") as terminal:
        terminal.expect("echo")
        terminal.send("hello\r")
        terminal.expect("HELLO")
        terminal.send("\x1dq")
        assert terminal.ended() == 0
    assert ratite("ps").stdout == ""


def test_the_shell_of_an_instance(plane: subprocess.Popen[bytes]) -> None:
    with ControlClient.connect(timeout=60) as control:
        control.instance_create(instance="bare")
        with Terminal("qmp") as terminal:
            terminal.expect("bare>")
            terminal.send("machine-create\r")
            terminal.expect("{}")
            control.instance_qmp(instance="bare", execute="x-exit-preconfig")
            terminal.expect("RESUME")
            terminal.send("exit\r")
            assert terminal.ended() == 0
        control.instance_end(instance="bare")


def test_no_control_plane(runtime: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def fails(*words: str) -> str:
        assert main.main(words) == 2
        return capsys.readouterr().err

    assert "no control plane at default" in fails("run", "--control", *HELLO)
    assert "no control plane at default" in fails("metrics")
    monkeypatch.setenv("RATITE_CONTROL", "unix:/nowhere")
    assert "no control plane at unix:/nowhere" in fails("ps")
    monkeypatch.setenv("RATITE_CONTROL", "serial:0")
    assert "an address must be default, unix:PATH" in fails("ps")
    monkeypatch.setenv("RATITE_TOKEN_FILE", str(runtime / "none"))
    assert "the token can't be read" in fails("ps")
