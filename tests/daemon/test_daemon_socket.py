"""A daemon over its socket: monitors beside each other, bad clients, descriptors, start and end."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from daemon_kit import CAPABILITIES, OOB_CAPABILITIES, Raw

from ratite.clients import machines
from ratite.clients.qmp import Client, CommandError, DaemonProcess
from ratite.core import log as core_log
from ratite.daemon.log import WAITING_MAX, Log


def status(raw: Raw) -> Any:
    return raw.ask(b'{"execute":"query-status"}')["return"]["status"]


# ---------------------------------------------------------------- several monitors


def test_each_monitor_negotiates_and_all_get_events(daemon: DaemonProcess, path: str) -> None:
    with Raw(path) as first, Raw(path) as second, Raw(path, negotiate=False) as mute:
        for name in ("machine-create", "x-exit-preconfig"):
            assert first.ask({"execute": name}) == {"return": {}}
        # RESUME came before the reply, on every negotiated monitor.
        assert second.line()["event"] == "RESUME"
        first.send(b'{"execute":"stop"}{"execute":"stop"}{"execute":"cont"}')
        names = [line.get("event", "reply") for line in [first.line() for _ in range(5)]]
        assert names == ["STOP", "reply", "reply", "RESUME", "reply"]
        assert [second.line()["event"], second.line()["event"]] == ["STOP", "RESUME"]
        first.send(b'{"execute":"system_reset"}')
        event = first.line()
        assert event["event"] == "RESET"
        assert event["data"] == {"guest": False, "reason": "host-qmp-system-reset"}
        assert set(event["timestamp"]) == {"seconds", "microseconds"}
        assert mute.ask(CAPABILITIES) == {"return": {}}


def test_each_monitor_has_its_own_view(daemon: DaemonProcess, path: str) -> None:
    with Raw(path) as first, Raw(path) as second:
        view = first.ask({"execute": "view-select", "arguments": {"personality": "qemu"}})["return"]
        assert view["personality"] == "qemu"
        assert first.ask(b'{"execute":"query-view"}')["error"]["class"] == "CommandNotFound"
        names = {row["name"] for row in first.ask(b'{"execute":"query-commands"}')["return"]}
        assert not names & {"machine-create", "query-targets", "device-add", "view-select", "qom-list-get"}
        assert second.ask(b'{"execute":"query-view"}')["return"]["generation"] == 0
        assert second.ask({"execute": "view-select", "arguments": {"target": "no-such"}})["error"]["desc"].startswith(
            "Target 'no-such' not found"
        )


def test_a_view_follows_the_machines_targets(toy: DaemonProcess) -> None:
    with toy.client() as qmp, toy.client() as pinned, toy.client() as other:
        targets = [row["name"] for row in qmp.execute("query-targets") if row["usable"]]
        if len(targets) < 2:
            pytest.skip("fewer than two targets are installed")
        view = pinned.execute("view-select", target=targets[1])
        assert view["pinned"] == targets[1]
        assert pinned.wait_event("VIEW_CHANGED")["data"]["targets"] == [targets[1]]
        assert pinned.execute("query-target") == {"arch": targets[1]}
        qmp.execute("machine-create")
        with pytest.raises(CommandError, match="query-targets lists"):
            qmp.execute("query-target")
        for number, target in enumerate(targets[:2]):
            qmp.execute("object-add", {"qom-type": "cpu-cluster", "id": f"c{number}", "target": target,
                                       "address-space": "s"})  # fmt: skip
            changed = qmp.wait_event("VIEW_CHANGED")["data"]
            assert changed == {"generation": number + 1, "targets": sorted(targets[: number + 1])}
            assert other.wait_event("VIEW_CHANGED")["data"] == changed
        assert "HETEROGENEOUS" in qmp.execute("query-view")["facts"]
        assert qmp.execute("query-target") == {"arch": targets[0]}
        assert pinned.execute("query-target") == {"arch": targets[1]}
        assert pinned.execute("query-view")["generation"] == 1
        assert not pinned.events


# ---------------------------------------------------------------- bad clients


def test_clients_that_vanish_or_send_garbage_harm_nobody(daemon: DaemonProcess, path: str) -> None:
    with Raw(path) as good:
        for garbage in (b"", b"{", b'{"execute":"query-st', os.urandom(4096), b"\xff" * 100, b"[" * 5000):
            with Raw(path) as bad:
                bad.send(garbage)
            assert status(good) == "prelaunch"
        with Raw(path) as bad:
            bad.send(b'{"execute":"query-qmp-schema"}' * 50)
            bad.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        assert status(good) == "prelaunch"


def memory_of(pid: int) -> int:
    """Resident bytes."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")


def test_a_client_that_does_not_read_costs_little(daemon: DaemonProcess, path: str) -> None:
    with Raw(path) as good, Raw(path) as bad:
        good.ask(b'{"execute":"query-qmp-schema"}')
        before = memory_of(daemon.process.pid)
        bad.sock.settimeout(0.3)
        command = b'{"execute":"query-qmp-schema","id":"%s"}' % (b"x" * 8000)
        sent = 0
        with pytest.raises(TimeoutError):
            while True:
                sent += bad.sock.send(command)
        assert status(good) == "prelaunch"
        assert memory_of(daemon.process.pid) - before < 8 << 20
        # It gets every answer once it reads.
        bad.sock.settimeout(60)
        assert all("return" in bad.line() for _ in range(sent // len(command)))


def test_a_client_that_lets_events_wait_is_closed(daemon: DaemonProcess, path: str) -> None:
    with Raw(path) as good, Raw(path) as bad:
        for name in ("machine-create", "x-exit-preconfig"):
            good.ask({"execute": name})
        good.ask(b'{"execute":"query-qmp-schema"}')
        bad.send(b'{"execute":"query-qmp-schema"}' * 1000)
        for _ in range(100):
            # Each answer is a turn of the other's, who is soon clogged.
            status(good)
        # Enough for what the host's buffer (200 KiB) took off the 1 MiB, and for the 1,024 that may wait.
        good.send(b'{"execute":"system_reset"}' * 3500)
        for _ in range(3500):
            while "event" in good.line():
                pass
        assert bad.eof()
        assert status(good) == "running"


def test_many_events_but_a_client_that_reads_late_gets_all(daemon: DaemonProcess, path: str) -> None:
    with Raw(path) as good, Raw(path) as late:
        for name in ("machine-create", "x-exit-preconfig"):
            good.ask({"execute": name})
        good.send(b'{"execute":"system_reset"}' * 500)
        for _ in range(500):
            while "event" in good.line():
                pass
        events = [late.line()["event"] for _ in range(501)]
        assert events == ["RESUME", *["RESET"] * 500]


def test_half_closed_clients_get_their_answers(daemon: DaemonProcess, path: str) -> None:
    with Raw(path) as raw:
        raw.send(b'{"execute":"query-name","id":1}' * 20)
        raw.sock.shutdown(socket.SHUT_WR)
        assert [raw.line()["id"] for _ in range(20)] == [1] * 20
        assert raw.line() is None


# ---------------------------------------------------------------- descriptors


def test_descriptors(daemon: DaemonProcess, path: str) -> None:
    read, write = os.pipe()
    fds_of = Path(f"/proc/{daemon.process.pid}/fd")
    with Raw(path) as raw:
        # It serves, so its own are open.
        raw.ask(b'{"execute":"query-name"}')
        before = len(list(fds_of.iterdir())) - 1
        assert raw.ask({"execute": "getfd", "arguments": {"fdname": "a"}}, (read,)) == {"return": {}}
        assert raw.ask({"execute": "getfd", "arguments": {"fdname": "9"}}, (read,))["error"]["desc"] == (
            "Parameter 'fdname' expects a name not starting with a digit"
        )
        assert raw.ask({"execute": "closefd", "arguments": {"fdname": "a"}}) == {"return": {}}
        added = raw.ask({"execute": "add-fd", "arguments": {"fdset-id": 3, "opaque": "x"}}, (write,))["return"]
        assert added["fdset-id"] == 3
        sets = raw.ask(b'{"execute":"query-fdsets"}')["return"]
        assert sets == [{"fdset-id": 3, "fds": [{"fd": added["fd"], "opaque": "x"}]}]
        assert raw.ask({"execute": "add-fd"}, (write,))["return"]["fdset-id"] == 0
        assert raw.ask({"execute": "remove-fd", "arguments": {"fdset-id": 3, "fd": 99}})["error"]["desc"] == (
            "File descriptor named 'fdset-id:3, fd:99' not found"
        )
        for number in (0, 3):
            assert raw.ask({"execute": "remove-fd", "arguments": {"fdset-id": number}}) == {"return": {}}
        raw.send(b"{", tuple([read] * 30))
        raw.ask(b'"execute":"query-name"}')
        # The log, which tells of those that were refused, opens modules meanwhile.
        while len(list(fds_of.iterdir())) > before + 1 + 16:
            status(raw)
    with Raw(path) as raw:
        while len(list(fds_of.iterdir())) > before + 1:
            status(raw)
    os.close(read)
    os.close(write)


def test_a_socket_handed_over_becomes_a_chardev(daemon: DaemonProcess) -> None:
    ours, theirs = socket.socketpair()
    with daemon.client() as qmp, ours:
        qmp.execute("machine-create")
        qmp.execute("getfd", fdname="line", fds=(theirs.fileno(),))
        theirs.close()
        address = {"type": "fd", "data": {"str": "line"}}
        backend = {"type": "socket", "data": {"addr": address, "server": False}}
        qmp.execute("chardev-add", id="c0", backend=backend)
        assert qmp.execute("query-chardev")[0]["label"] == "c0"
        with pytest.raises(CommandError, match="'line' has not been found"):
            qmp.execute("chardev-add", id="c1", backend=backend)
        qmp.execute("chardev-remove", id="c0")
        assert ours.recv(1) == b""


def test_no_machine_in_the_qemu_personality(daemon: DaemonProcess) -> None:
    with daemon.client() as qmp:
        qmp.execute("view-select", personality="qemu")
        for command in ("x-exit-preconfig", "query-memory-size-summary"):
            with pytest.raises(CommandError) as caught:
                qmp.execute(command)
            assert "machine-create" not in caught.value.desc


@pytest.mark.parametrize("server", [False, True])
def test_no_number_takes_a_descriptor_of_others(daemon: DaemonProcess, path: str, server: bool) -> None:
    with daemon.client() as qmp, Raw(path) as victim:
        qmp.execute("machine-create")
        for number in (*range(16), 1 << 32, "\u0663"):
            backend = {"type": "socket", "data": {"server": server, "addr": {"type": "fd", "data": {"str": str(number)}}}}
            with pytest.raises(CommandError, match=f"File descriptor named '{number}' has not been found"):
                qmp.execute("chardev-add", id="c", backend=backend)
        assert status(victim) == "prelaunch"
        assert qmp.execute("query-chardev") == []


def test_a_descriptor_that_is_refused_is_closed(daemon: DaemonProcess, tmp_path: Path) -> None:
    fds_of = Path(f"/proc/{daemon.process.pid}/fd")

    def unix(n: int) -> dict[str, str]:
        return {"type": "unix", "path": str(tmp_path / f"s{n}")}

    with daemon.client() as qmp, open(tmp_path / "no socket", "wb") as file:
        qmp.execute("machine-create")
        # What serves netdevs begins with the first.
        qmp.execute("netdev_add", id="first", type="dgram", local=unix(1), remote=unix(2))
        before = len(list(fds_of.iterdir()))
        qmp.execute("getfd", fdname="file", fds=(file.fileno(),))
        address = {"type": "fd", "data": {"str": "file"}}
        with pytest.raises(CommandError, match="Failed to add chardev 'c': File descriptor 'file' is not a socket"):
            qmp.execute("chardev-add", id="c", backend={"type": "socket", "data": {"addr": address, "server": False}})
        flat = {"type": "fd", "str": "file"}
        for options, words in (
            ({"type": "stream", "addr": flat}, "File descriptor 'file' is not a socket"),
            ({"type": "dgram", "local": flat}, "File descriptor 'file' is not a socket"),
            ({"type": "socket", "fd": "file"}, "File descriptor 'file' is not a socket"),
            ({"type": "tap", "fd": "file"}, "File descriptor 'file' is not a tap interface: "),
        ):
            qmp.execute("getfd", fdname="file", fds=(file.fileno(),))
            with pytest.raises(CommandError, match=f"netdev_add: {words}"):
                qmp.execute("netdev_add", {"id": "n", **options})
        assert len(list(fds_of.iterdir())) == before


def test_ring_buffers(daemon: DaemonProcess) -> None:
    with daemon.client() as qmp:
        qmp.execute("machine-create")
        qmp.execute("chardev-add", id="r", backend={"type": "ringbuf", "data": {"size": 16}})
        qmp.execute("ringbuf-write", device="r", data="AAECAw==", format="base64")
        assert qmp.execute("ringbuf-read", device="r", size=2, format="base64") == "AAE="
        assert qmp.execute("ringbuf-read", device="r", size=9) == "\2\3"
        with pytest.raises(CommandError, match="Base64"):
            qmp.execute("ringbuf-write", device="r", data="!", format="base64")


def test_many_commands_of_a_client_on_their_way_at_a_time(daemon: DaemonProcess) -> None:
    """More than the daemon's queue takes; a refused one is told once those behind it are done."""
    with daemon.client() as qmp:
        adds = [("object-add", {"qom-type": "address-space", "id": f"space{n}"}) for n in range(30)]
        assert qmp.execute_all([]) == []
        assert qmp.execute_all([("machine-create", {}), *adds, ("query-status", {})])[-1]["status"] == "prelaunch"
        again = [("object-del", {"id": "space3"}), adds[3], adds[4], adds[5], ("object-del", {"id": "space6"})]
        with pytest.raises(CommandError, match="attempt to add duplicate property 'space4'"):
            qmp.execute_all(again)
        names = {row["name"] for row in qmp.execute("qom-list", path="/objects")}
        assert {f"space{n}" for n in range(30) if n != 6} <= names and "space6" not in names


# ---------------------------------------------------------------- start and end


def watched(path: str, *options: str) -> subprocess.Popen[str]:
    """A daemon that prints, in a line, what it has imported by the end of each command's execution on the loop."""
    # what an editable install imports at every start is not ours
    program = (
        "import sys\n"
        "before = set(sys.modules)\n"
        "import threading, ratite.daemon.main as m\n"
        "import ratite.daemon.dispatch as d\n"
        "execute = d.Dispatcher.execute\n"
        "def watch(self, connection, request):\n"
        "    execute(self, connection, request)\n"
        "    print(*sorted(set(sys.modules) - before), flush=True)\n"
        "d.Dispatcher.execute = watch\n"
        f"sys.exit(m.main({['--qmp', f'unix:{path}', *options]!r}))\n"
    )
    return subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)


def test_first_reply_needs_no_heavy_module(tmp_path: Path) -> None:
    """Asked of the daemon itself: its own modules by query-modules, everything else by its open files."""
    path = str(tmp_path / "qmp")
    process = watched(path)
    with Client.connect(f"unix:{path}") as qmp:
        qmp.execute("query-status")
        assert process.stdout is not None
        modules = set(process.stdout.readline().split())
        # Of the commands' modules only the one that has been asked for.
        assert [name for name in modules if name.startswith("ratite.daemon.commands.")] == ["ratite.daemon.commands.run_state"]
        heavy = {"llvmlite", "aiohttp", "jsonschema", "structlog", "argparse", "ssl", "pathlib", "elftools"}
        assert not modules & {*heavy, "asyncio", "logging", "subprocess"}
        assert not [name for name in modules if name.startswith(("ratite.core", "ratite.targets", "ratite.hw"))]
        for command in ("query-targets", "query-device-types", "query-accelerators", "query-qmp-schema"):
            qmp.execute(command)
        states = {row["name"]: row["state"] for row in qmp.execute("query-modules")}
        qmp.execute("query-status")
        modules = set([process.stdout.readline() for _ in range(6)][-1].split())
        assert not [name for name in modules if name.startswith(("ratite.targets.", "ratite.hw.", "llvmlite"))]
        assert {state for name, state in states.items() if name.startswith(("ratite.hw", "ratite.targets"))} <= {"unloaded"}
        qmp.execute("machine-create")
        qmp.execute("query-status")
        modules = set([process.stdout.readline() for _ in range(2)][-1].split())
        assert "ratite.core.machine" in modules
        assert not modules & {"structlog", "importlib.metadata", "tempfile", "shutil", "asyncio", "logging", "subprocess"}
        qmp.execute("quit")
    assert process.wait(60) == 0
    process.stdout.close()


@pytest.mark.parametrize("board", ["rv64", "ml605"])
def test_a_machine_whose_native_code_is_kept_needs_no_heavy_module(tmp_path: Path, board: str) -> None:
    """No compiler, nothing to read regions with; no instruction's declaration unless its guests poll, which is soon proved."""
    for again in False, True:  # the first may have to compile
        path = str(tmp_path / f"qmp{again}")
        process = watched(path, "--paused")
        assert process.stdout is not None
        with Client.connect(f"unix:{path}", timeout=120) as qmp:
            commands: list[machines.Command] = [("machine-create", {})]
            commands.append(("chardev-add", {"id": "c", "backend": {"type": "null", "data": {}}}))
            for command, arguments in machines.one_cpu(board, Path(), "c"):
                commands.append((command, {name: value for name, value in arguments.items() if name != "image"}))
            commands += [("x-exit-preconfig", {}), ("query-status", {})]
            for command, arguments in commands:
                qmp.execute(command, arguments)
            qmp.execute("quit")
        modules = set(process.stdout.read().splitlines()[-2].split())
        assert process.wait(60) == 0
        process.stdout.close()
    assert "ratite.core.engine.vcpu" in modules
    late = {"hashlib", "ast", "weakref", "subprocess", "tempfile", "random", "locale", "elftools", "llvmlite"}
    assert not modules & {*late, "ratite.core.engine.tier0", "ratite.targets.riscv.rvi", "ratite.targets.riscv.mmu"}
    proving = {"ratite.core.isa.evaluator", "ratite.core.isa.folder", "ratite.core.engine.idle_proof"}
    assert modules & {*proving, "ratite.targets.microblaze.arith"} == (
        {*proving, "ratite.targets.microblaze.arith"} if board == "ml605" else set()
    )


def test_the_cores_lines_come_to_the_daemons_log(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """With their fields, at the daemon's level; a second daemon's log takes them over."""
    said, later = tmp_path / "log", tmp_path / "later"
    logs = [Log("error", str(said), as_json=True), Log("warning", str(later))]
    logs[0].take_core()
    core_log.warn("nobody asked", n=1)
    try:
        raise ValueError("why")
    except ValueError:
        core_log.error("object failed", path="/machine", exc_info=True)
    logs[1].take_core()
    core_log.warn("told elsewhere", n=2)
    core_log.taken_by(None)
    core_log.warn("told to whoever listens to Python's logging")
    for log in logs:
        log.close()
    (line,) = map(json.loads, said.read_text().splitlines())
    assert (line["level"], line["event"], line["path"]) == ("error", "object failed", "/machine")
    assert "ValueError: why" in line["exception"]
    assert 'event="told elsewhere" n=2' in later.read_text()
    assert "listens" in caplog.text and "listens" not in later.read_text()
    for log in logs:
        log._out.close()


def test_a_value_in_the_log_can_not_end_its_line(tmp_path: Path) -> None:
    log = Log("warning", str(tmp_path / "log"))
    log.warning("a b", none=None, yes=True, path="/x", text='1 "2"\nlevel=error', escape="\x1b[2J", number=3)
    log.info("not at this level")
    log.close()
    log._out.close()
    log.warning("nor into a closed file")
    log.close()
    (line,) = (tmp_path / "log").read_text().splitlines()
    when, rest = line.split(" ", 1)
    assert re.fullmatch(r"timestamp=\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", when)
    text = '"1 \\"2\\"\\nlevel=error"'
    assert rest == f'level=warning event="a b" none= yes=true path=/x text={text} escape=\\x1b[2J number=3'


def test_a_reader_of_the_log_that_does_not_read_holds_nobody_up(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "log")
    reader = os.open(tmp_path / "log", os.O_RDONLY | os.O_NONBLOCK)
    log = Log("warning", str(tmp_path / "log"))
    for number in range(2 * WAITING_MAX):
        log.warning("x" * 100, number=number)
    os.set_blocking(reader, True)
    with open(reader, encoding="ascii") as lines:
        said = [next(lines) for _ in range(WAITING_MAX // 2)]
        log.warning("behind them")
        while "behind them" not in said[-1]:
            said.append(next(lines))
    log.close()
    log._out.close()
    lost = sum(int(line.rpartition("=")[2]) for line in said if "were lost" in line)
    assert lost and len([line for line in said if "number=" in line]) + lost == 2 * WAITING_MAX


def test_quit(daemon: DaemonProcess, path: str) -> None:
    with Raw(path) as raw, Raw(path) as other, Raw(path, negotiate=False) as mute:
        raw.send(b'{"execute":"quit","id":"q"}{"execute":"query-status"}')
        assert raw.line()["data"] == {"guest": False, "reason": "host-qmp-quit"}
        assert raw.line() == {"return": {}, "id": "q"}
        assert raw.line() is None
        assert other.line()["event"] == "SHUTDOWN"
        assert other.line() is None
        assert mute.line() is None
    assert daemon.process.wait(60) == 0
    assert not Path(path).exists()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_signals(daemon: DaemonProcess, path: str, number: int) -> None:
    with Raw(path) as raw, Raw(path) as stuck:
        stuck.send(b'{"execute":"query-qmp-schema"}' * 1000)
        status(raw)
        daemon.process.send_signal(number)
        assert raw.line()["data"] == {"guest": False, "reason": "host-signal"}
        assert raw.line() is None
        assert daemon.process.wait(60) == 0
    assert not Path(path).exists()


def run(*options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "ratite.daemon", *options], capture_output=True, text=True, timeout=20)


def test_a_live_socket_is_an_error_a_dead_one_is_replaced(daemon: DaemonProcess, path: str) -> None:
    refused = run("--qmp", f"unix:{path}")
    assert refused.returncode == 1
    assert "another process listens there" in refused.stderr
    assert Path(path).stat().st_mode & 0o777 == 0o600
    daemon.process.kill()
    daemon.process.wait()
    assert Path(path).exists()
    with DaemonProcess(path) as again:
        again.client().close()
        # Somebody else's inode at our path is left alone at the end.
        Path(path).unlink()
        Path(path).write_text("mine")
    assert Path(path).read_text() == "mine"
    refused = run("--qmp", f"unix:{path}")
    assert refused.returncode == 1
    assert "is no socket" in refused.stderr


def test_tcp_inherited_and_connecting_monitors(tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(tmp_path / "out"))
    listener.listen()
    inherited = socket.socket(socket.AF_UNIX)
    inherited.bind(str(tmp_path / "in"))
    inherited.listen()
    process = subprocess.Popen(
        [sys.executable, "-m", "ratite.daemon", "--qmp", f"tcp:127.0.0.1:{port}", "-qmp", f"unix:{tmp_path}/out",
         "--qmp", f"fd:{inherited.fileno()}", "--pidfile", str(tmp_path / "pid")],
        pass_fds=[inherited.fileno()],
    )  # fmt: skip
    with Client(listener.accept()[0]) as out, Client.connect(f"tcp:127.0.0.1:{port}") as tcp:
        assert out.execute("query-status") == tcp.execute("query-status")
        assert int((tmp_path / "pid").read_text()) == process.pid
        with Client.connect(f"unix:{tmp_path}/in") as third:
            third.execute("quit")
    assert process.wait(60) == 0
    assert not (tmp_path / "pid").exists()
    inherited.close()
    listener.close()


def test_out_of_band_over_the_socket(daemon: DaemonProcess, path: str) -> None:
    with Raw(path, negotiate=False) as raw:
        assert raw.ask(OOB_CAPABILITIES) == {"return": {}}
        assert raw.ask(b'{"exec-oob":"query-machine-phase","id":7}') == {"return": {"phase": "none"}, "id": 7}
        assert raw.ask(b'{"exec-oob":"nope"}')["error"]["class"] == "CommandNotFound"
        assert raw.ask(b'{"exec-oob":"query-status"}')["error"]["desc"] == (
            "The command query-status does not support OOB"
        )


def test_phases_are_named_in_refusals(daemon: DaemonProcess) -> None:
    with daemon.client() as qmp:
        with pytest.raises(CommandError, match="its phase is 'none', and machine-create makes one"):
            qmp.execute("object-add", {"qom-type": "memory-backend-ram", "id": "a", "size": 4096})
        for name in ("cont", "stop", "system_reset", "memsave"):
            with pytest.raises(CommandError, match=f"The command '{name}' is permitted only after machine init"):
                qmp.execute(name)
        qmp.execute("machine-create")
        with pytest.raises(CommandError, match="permitted only in phase 'none', it is 'created'"):
            qmp.execute("machine-create")
        phases = [qmp.execute("query-machine-phase")["phase"]]
        for name in ("machine-wire", "x-exit-preconfig", "stop"):
            qmp.execute(name)
            phases.append(qmp.execute("query-machine-phase")["phase"])
        assert phases == ["created", "initialized", "running", "paused"]
        with pytest.raises(CommandError, match="permitted only before machine initialization"):
            qmp.execute("x-exit-preconfig")


def test_paused_start(path: str) -> None:
    options = ("-S", "--name", "n", "--uuid", "12345678123456781234567812345678")
    with DaemonProcess(path, *options) as process, process.client() as qmp:
        assert qmp.execute("query-name") == {"name": "n"}
        assert qmp.execute("query-uuid") == {"UUID": "12345678-1234-5678-1234-567812345678"}
        qmp.execute("machine-create")
        qmp.execute("x-exit-preconfig")
        assert qmp.execute("query-status") == {"running": False, "status": "prelaunch"}
        assert qmp.execute("query-machine-phase") == {"phase": "ready"}
        qmp.execute("cont")
        assert qmp.wait_event("RESUME")
        assert qmp.execute("query-status")["running"]


def test_qmp_shell(daemon: DaemonProcess, path: str, tmp_path: Path) -> None:
    pytest.importorskip("qemu.qmp")
    environment = {**os.environ, "HOME": str(tmp_path)}
    for options, text, expected in (
        ([], "query-status\nobject-add qom-type=x id=y\n", ['"status": "prelaunch"', "does not accept value"]),
        (["-H"], "info status\nhelp info\n", ["VM status: paused (prelaunch)", "info registers"]),
    ):
        done = subprocess.run(
            [sys.executable, "-W", "ignore", "-m", "qemu.qmp.qmp_shell", *options, path],
            input=text, env=environment, capture_output=True, text=True, timeout=30,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        for part in expected:
            assert part in done.stdout


def test_qmp_shell_completes(daemon: DaemonProcess, path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("qemu.qmp")
    program = (
        "from qemu.qmp import qmp_shell as q\n"
        f"for kind in (q.QMPShell, q.HMPShell):\n"
        f"    s = kind({path!r})\n    s.connect()\n    print(s._completer._matches)\n    s.close()\n"
    )
    environment = {**os.environ, "HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program], env=environment, capture_output=True, text=True, timeout=30
    )
    qmp, hmp = done.stdout.splitlines()
    assert "'machine-create'" in qmp and "'device_add'" in qmp
    assert "'info registers'" in hmp and "'help cont'" in hmp and "'xp'" in hmp


def test_log_lines_are_structured(path: str, tmp_path: Path) -> None:
    log = tmp_path / "log"
    with DaemonProcess(path, "--log-file", str(log), "--log-json") as process, Raw(path_when_there(process, path)) as raw:
        raw.send(b"{", tuple([0] * 20))
        status_line = raw.ask(b'"execute":"query-status"}')
        assert status_line["return"]["status"] == "prelaunch"
        while not log.read_text():  # another thread writes it
            status(raw)
    line = json.loads(log.read_text().splitlines()[0])
    assert line["event"] == "descriptors refused"
    assert line["level"] == "warning"
    assert line["count"] == 4


def test_the_log_goes_elsewhere(path: str, tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    with DaemonProcess(path, "--log-file", str(first)) as process, process.client() as qmp, Raw(path) as raw:
        assert qmp.hmp("logfile /nonexistent/log") == "Error opening logfile /nonexistent/log: No such file or directory\n"
        os.mkfifo(tmp_path / "pipe")
        assert qmp.hmp(f"logfile {tmp_path}/pipe").startswith("Error opening logfile")
        assert qmp.hmp(f"logfile {tmp_path}/%s") == f"Bad logfile template: {tmp_path}/%s\n"
        for count, log in enumerate([first, second, tmp_path / str(process.process.pid)]):
            if count:
                assert qmp.hmp(f"logfile {second if count == 1 else tmp_path / '%d'}") == ""
            raw.send(b"{", tuple([0] * 20))
            assert raw.ask(b'"execute":"query-status"}')["return"]["status"] == "prelaunch"
            while not log.exists() or not log.read_text().endswith("\n"):  # another thread writes it
                status(raw)
            assert log.read_text().count("descriptors refused") == log.read_text().count("\n") == 1
    assert first.read_text().count("\n") == second.read_text().count("\n") == 1


def path_when_there(process: DaemonProcess, path: str) -> str:
    process.client().close()
    return path


def test_qmp_shell_wrap(tmp_path: Path) -> None:
    """It listens itself and starts the emulator with `-qmp unix:PATH`."""
    pytest.importorskip("qemu.qmp")
    program = "import sys; from qemu.qmp.qmp_shell import main_wrap; main_wrap()"
    environment = {**os.environ, "HOME": str(tmp_path), "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program, sys.executable, "-m", "ratite.daemon"],
        input="query-status\nquit\n", env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert '"status": "prelaunch"' in done.stdout, done.stderr


def test_a_monitor_that_the_daemon_connected_to_gets_its_last_words(tmp_path: Path) -> None:
    path = str(tmp_path / "listening")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen(1)
        listener.settimeout(60)
        process = subprocess.Popen([sys.executable, "-m", "ratite.daemon", "-qmp", f"unix:{path}"])
        try:
            with Client(listener.accept()[0]) as client:
                assert client.execute("quit") == {}
            assert process.wait(60) == 0
        finally:
            process.kill()
            process.wait()
