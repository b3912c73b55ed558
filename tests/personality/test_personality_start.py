"""A daemon in QEMU's place: its name chooses the target, monitors have one view, and starts keep their promises."""

from __future__ import annotations

import os
import pty
import select
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from personality_kit import Shims, alive, ended

import ratite
from ratite.clients.qmp import Client, CommandError
from ratite.core.objects.registry import TypeRegistry

TARGETS = sorted(TypeRegistry().targets())
# What the time to the first reply has no room for.
HEAVY = (
    "llvmlite", "aiohttp", "jsonschema", "structlog", "argparse", "ssl", "pathlib", "platform", "difflib", "urllib.parse",
    "tempfile", "shutil", "importlib.metadata", "elftools", "yaml", "logging.config",
)  # fmt: skip
PROBE = ("-S", "-no-user-config", "-nodefaults", "-nographic", "-machine", "none,accel=kvm:tcg")


@pytest.mark.parametrize("target", TARGETS)
def test_the_name_is_the_target_for_every_monitor(shims: Shims, target: str) -> None:
    path = shims.place / "second"
    process, qmp = shims.start(target, *PROBE, "-qmp", f"unix:{path},server=on,wait=off")
    with qmp, Client.connect(f"unix:{path}") as second:
        for monitor in (qmp, second):
            assert monitor.execute("query-target") == {"arch": target}
            names = {row["name"] for row in monitor.execute("query-commands")}
            assert "query-status" in names and not names & {"query-view", "view-select", "machine-create", "query-targets"}
        version = qmp.execute("query-version")
        assert version["qemu"]["major"] == 10 and version["package"].startswith("ratite ")
        qmp.execute("quit")
    assert process.wait(60) == 0


def test_target_overrides_the_name(shims: Shims) -> None:
    _, qmp = shims.start(TARGETS[0], *PROBE, "-target", TARGETS[-1])
    with qmp:
        assert qmp.execute("query-target") == {"arch": TARGETS[-1]}


def test_libvirts_probe_finds_socket_and_pidfile_when_the_starter_has_ended(shims: Shims) -> None:
    path = shims.place / "qmp.monitor"
    pid = shims.background(TARGETS[-1], *PROBE, "-qmp", f"unix:{path},server=on,wait=off")
    assert alive(pid) and os.getsid(pid) != os.getsid(0)
    with Client.connect(f"unix:{path}", patience=0) as qmp:
        assert qmp.execute("query-status") == {"running": False, "status": "prelaunch"}
        os.kill(pid, signal.SIGTERM)
        assert qmp.wait_event("SHUTDOWN")["data"] == {"guest": False, "reason": "host-signal"}
    assert ended(pid)
    assert not path.exists() and not (shims.place / "pid").exists()


def test_relative_paths_are_those_of_the_start(shims: Shims) -> None:
    pid = shims.background(TARGETS[0], *PROBE, "-qmp", "unix:here,server=on,wait=off")
    with Client.connect(f"unix:{shims.place / 'here'}", patience=0) as qmp:
        qmp.execute("quit")
    assert ended(pid) and not (shims.place / "here").exists()


def test_a_start_in_the_background_that_fails_says_so(shims: Shims) -> None:
    done = shims.run(TARGETS[0], *PROBE, "-daemonize", "-pidfile", "/nonexistent/pid")
    assert done.returncode == 1
    program = f"qemu-system-{TARGETS[0]}"
    assert done.stderr == (
        f"{program}: cannot create PID file: Could not create '/nonexistent/pid': No such file or directory\n"
    )


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT", "SIGHUP"])
def test_signals_end_it_in_order(shims: Shims, name: str) -> None:
    process, qmp = shims.start(TARGETS[0], *PROBE)
    with qmp:
        process.send_signal(getattr(signal, name))
        assert qmp.wait_event("SHUTDOWN")["data"]["reason"] == "host-signal"
    assert process.wait(60) == 0


def test_an_empty_machine_is_there_from_the_start(shims: Shims) -> None:
    _, qmp = shims.start(TARGETS[0], "-M", "none", "-nodefaults")
    with qmp:
        assert qmp.execute("query-status") == {"running": True, "status": "running"}
        assert qmp.execute("qom-list", {"path": "/machine/peripheral"}) == [{"name": "type", "type": "string"}]
        assert qmp.drain() == []
        qmp.execute("stop")
        assert qmp.wait_event("STOP")
        assert qmp.execute("query-status") == {"running": False, "status": "paused"}


def test_with_S_it_waits_for_cont(shims: Shims) -> None:
    _, qmp = shims.start(TARGETS[0], *PROBE)
    with qmp:
        qmp.execute("cont")
        assert qmp.wait_event("RESUME")
        assert qmp.execute("query-status") == {"running": True, "status": "running"}


def test_preconfig_waits_for_x_exit_preconfig(shims: Shims) -> None:
    _, qmp = shims.start(TARGETS[0], "-M", "none", "-preconfig")
    with qmp:
        assert qmp.execute("query-status") == {"running": False, "status": "prelaunch"}
        with pytest.raises(CommandError, match="permitted only after machine initialization has completed"):
            qmp.execute("cont")
        qmp.execute("x-exit-preconfig")
        assert qmp.execute("query-status") == {"running": True, "status": "running"}


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["-foo"], "-foo: invalid option"),
        (["-kernal", "x"], "-kernal: invalid option (did you mean -kernel?)"),
        (["-M"], "-M: requires an argument"),
        (["-M", "foo"], 'unsupported machine type: "foo"\nUse -machine help to list supported machines'),
        (["-M", "none", "-accel", "foo"], "-accel foo: invalid accelerator foo"),
        (["-M", "none,accel=tcg", "-accel", "tcg"], 'The -accel and "-machine accel=" options are incompatible'),
        (["-M", "none", "-uuid", "x"], "-uuid x: failed to parse UUID string: wrong format"),
        (["-M", "none", "-name", "a,b=c"], "-name a,b=c: Invalid parameter 'b'"),
        (["-M", "none", "-chardev", "foo,id=x"], "-chardev foo,id=x: 'foo' is not a valid char driver name"),
        (["-M", "none", "-chardev", "null,id=a", "-chardev", "null,id=a"],
         "-chardev null,id=a: Duplicate ID 'a' for chardev"),
        (["-M", "none", "-mon", "chardev=zz"], '-mon chardev=zz: chardev "zz" not found'),
        (["-M", "none", "-mon", "foo=1"], "-mon foo=1: Invalid parameter 'foo'"),
        (["-M", "none", "-qmp", "foo"], "-qmp foo: 'foo' is not a valid char driver\n"
         "qemu-system-{}: -qmp foo: parse error: foo"),
        (["-M", "none", "-D", "/nonexistent/x"], "Error opening logfile /nonexistent/x: No such file or directory"),
    ],
)  # fmt: skip
def test_refusals_are_worded_as_qemus(shims: Shims, words: list[str], text: str) -> None:
    done = shims.run(TARGETS[0], *words)
    assert done.returncode == 1
    assert done.stderr == f"qemu-system-{TARGETS[0]}: {text.format(TARGETS[0])}\n"


def test_a_shim_of_another_version_tells_how_to_renew_it(shims: Shims, tmp_path: Path) -> None:
    from ratite import __version__

    old = Path(shims.path(TARGETS[0])).read_text().replace(f"'{__version__}'", "'0.0.0'")
    assert old != Path(shims.path(TARGETS[0])).read_text()
    folder = tmp_path / "old"
    folder.mkdir()
    (folder / f"qemu-system-{TARGETS[0]}").write_text(old)
    (folder / f"qemu-system-{TARGETS[0]}").chmod(0o755)
    log = tmp_path / "log"
    with Shims(folder, tmp_path) as made:
        process, qmp = made.start(TARGETS[0], *PROBE, "-D", str(log))
        with qmp:
            while not log.read_text():  # another thread writes it, and the end waits for that a second at most
                qmp.execute("query-status")
            qmp.execute("quit")
        process.wait(60)
    assert f"ratite install-shims {folder}" in log.read_text()


def test_install_shims_replaces_its_own_only(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    from ratite.clients.cli.main import main

    other = tmp_path / f"qemu-system-{TARGETS[0]}"
    other.write_text("#!/bin/sh\n")
    assert main(["install-shims", str(tmp_path)]) == 1
    assert f"{other} is another program's" in capfd.readouterr().err
    assert other.read_text() == "#!/bin/sh\n"
    assert main(["install-shims", str(tmp_path), "--force"]) == 0
    assert main(["install-shims", str(tmp_path)]) == 0
    names = [f"qemu-system-{target}" for target in TARGETS]
    assert sorted(path.name for path in tmp_path.iterdir()) == [".ratite-modules", *names]


def test_without_graphics_the_guest_hears_first_and_the_monitor_after_ctrl_a_c(shims: Shims) -> None:
    """A terminal shared by the serial line and the human monitor, as QEMU's -nographic has it."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(shims.place)
        os.execv(shims.path("microblaze"), ["qemu-system-microblaze", "-nographic", "-accel", "interp"])
    try:
        # What is typed at first is the guest's, and nothing but the guest is heard before somebody asks.
        os.write(terminal, b"info status\r\x01h")
        heard = until(terminal, b"sends C-a")
        assert b"VM status" not in heard and b"(qemu)" not in heard and b" monitor - " not in heard
        os.write(terminal, b"\x01c")
        assert b" monitor - type 'help'" in until(terminal, b"(qemu) ")
        os.write(terminal, b"info status\r")
        assert b"VM status: running" in until(terminal, b"VM status: running")
        os.write(terminal, b"\x01x")
        assert b"QEMU: Terminated" in until(terminal, b"Terminated")
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        pid = 0
    finally:
        if pid:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        os.close(terminal)


def until(terminal: int, wanted: bytes, seconds: float = 30) -> bytes:
    """What comes from a terminal, up to `wanted`."""
    found = b""
    while wanted not in found:
        assert select.select([terminal], [], [], seconds)[0], found
        found += os.read(terminal, 4096)
    return found


@pytest.mark.parametrize("machine", ["none", "virt"])
def test_first_reply_needs_no_heavy_module(shims: Shims, machine: str, tmp_path: Path) -> None:
    """Asked of a shim itself: its text, with a look at what is imported when the first command comes."""
    seen = tmp_path / "seen"
    watch = (
        "import ratite.daemon.dispatch as d\n"
        "execute = d.Dispatcher.execute\n"
        "def watched(self, connection, request):\n"
        f"    with open({str(seen)!r}, 'w') as file:\n"
        "        print(*sys.modules, file=file)\n"
        "    execute(self, connection, request)\n"
        "d.Dispatcher.execute = watched\n"
    )
    text = Path(shims.path("riscv64")).read_text()
    assert text.count("\nsys.exit(") == 1
    program = tmp_path / "qemu-system-riscv64"
    program.write_text(text.replace("\nsys.exit(", f"\n{watch}sys.exit("))
    program.chmod(0o755)
    with Shims(tmp_path, tmp_path) as own:
        for _ in range(2):  # the first may have to compile
            process, qmp = own.start("riscv64", "-S", "-nodefaults", "-display", "none", "-m", "128", "-M", machine)
            with qmp:
                qmp.execute("query-status")
                qmp.execute("quit")
            assert process.wait(60) == 0
    modules = set(seen.read_text().split())
    assert "ratite.daemon.commands" in modules
    assert ("ratite.core.machine" in modules) == (machine == "virt")
    assert not modules & {*HEAVY, "site"}
    if machine == "none":
        assert not [name for name in modules if name.startswith(("ratite.core.engine", "ratite.targets.", "ratite.hw."))]


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ([b"-append", b"\xff"], "'\\udcff': options must be UTF-8"),
        (["-device", b'{"driver":"\xfe"}'], "options must be UTF-8"),
        (["-chardev", "socket,id=c,fd=99999999999999999999,server=on"], "'99999999999999999999' has not been found"),
        (["-add-fd", "fd=99,set=1"], "fd is not valid or already in use"),
        (["-m", "9" * 5000], "is out of range for parameter 'size'"),
        (["-blockdev", "a." * 2000 + "a=1"], "is nested too deep"),
        (["-add-fd", "fd=\u0663,set=1"], "Parameter 'fd' expects a number"),
        (["-add-fd", "fd=1_0,set=1"], "Parameter 'fd' expects a number"),
        (["-pidfile", ""], "cannot create PID file: Could not create '': No such file or directory"),
        (["-D", ""], "Error opening logfile : No such file or directory"),
        (["-object", r'{"qom-type":"secret","id":"s","file":"a\u0000b"}'], "must not contain a NUL character"),
        (["-blockdev", r'{"driver":"file","node-name":"n","filename":"a\u0000b"}'], "must not contain a NUL character"),
        (["-chardev", "file,id=c,path=" + "a" * 100_000], "File name too long"),
        (["-object", '{"qom-type":"secret","id":"s","data":' * 3000], "JSON nesting depth limit exceeded"),
        (["-append", "a" * 100_000] * 10 + ["-nope"], "invalid option"),
    ],
)
def test_values_that_mean_no_good(shims: Shims, words: list[str | bytes], text: str) -> None:
    done = shims.run("riscv64", "-M", "none", *[os.fsdecode(word) for word in words])
    assert done.returncode == 1 and text in done.stderr and "Traceback" not in done.stderr, done.stderr


@pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="only root can become another user")
def test_another_user_executes_commands_though_ratite_is_not_his_to_read(tmp_path: Path) -> None:
    hidden = tmp_path / "hidden"
    shutil.copytree(Path(ratite.__file__).parent, hidden / "ratite", ignore=shutil.ignore_patterns("__pycache__"))
    hidden.chmod(0o700)
    monitor = f"unix:{tmp_path}/qmp,server=on,wait=off"
    words = ["-target", "riscv64", "-M", "none", "-display", "none", "-qmp", monitor, "-run-with", "user=65534:65534"]
    env = {**os.environ, "PYTHONPATH": str(hidden), "XDG_CACHE_HOME": str(tmp_path)}
    with subprocess.Popen([sys.executable, "-m", "ratite.daemon", *words], env=env, cwd=tmp_path) as process:
        try:
            with Client.connect(f"unix:{tmp_path}/qmp", timeout=60) as qmp:
                deadline = time.monotonic() + 60
                while "Uid:\t65534" not in Path(f"/proc/{process.pid}/status").read_text():
                    assert time.monotonic() < deadline
                    qmp.execute("query-version")
                assert qmp.execute("query-migrate-capabilities") == []
                qmp.execute("quit")
        finally:
            process.terminate()
