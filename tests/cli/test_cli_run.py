"""`ratite run` and what follows it: ps, console, stop; compile, schema, profiles."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path

import pytest
from cli_kit import COMMAND, PROFILE, Terminal, environment, image, mistake, ratite

from ratite.clients.cli import main, places
from ratite.clients.cli.run import Watch
from ratite.clients.cli.start import compiling
from ratite.clients.cli.vocabulary import Vocabulary
from ratite.clients.cli.words import line_of, parse_line
from ratite.clients.qmp import DaemonProcess

pytestmark = pytest.mark.usefixtures("nothing_stays")


# -- what ends a run


def test_a_guest_that_powers_off() -> None:
    done = ratite("run", *image("hello"))
    assert (done.returncode, done.stdout.replace("\r", ""), done.stderr) == (0, "hello from rv64\n", "")
    assert places.local() == []


def test_expected_texts_in_order() -> None:
    done = ratite("run", *image("echo"), "-e", "ec", "-e", "o", "--json")
    shown = json.loads(done.stdout)
    assert (done.returncode, shown["result"], shown["text"], shown["console"].startswith("echo")) == (0, "expected", "o", True)
    assert places.local() == []


@pytest.mark.parametrize(("words", "status", "why"), [
    ((*image("echo"), "--expect-text", "never", "--timeout", "1"), 4, "1 s have passed, and 'never' never came"),
    ((*image("hello"), "--expect-text", "never"), 5, "the machine ended, and 'never' never came"),
    ((*image("hello"), "--expect-text", "rv64", "--fail-text", "hello"), 3, "the console printed 'hello'"),
    ((*image("panic"), "--expect-text", "never"), 6, "the guest has panicked, and 'never' never came"),
    ((*image("hello"), "--set", "cpu=no-such"), 2, "no-such"),
    ((PROFILE, "--set", "image=/nowhere.elf"), 1, "cpu0: Could not open '/nowhere.elf': No such file or directory"),
])  # fmt: skip
def test_other_ends(words: tuple[str, ...], status: int, why: str) -> None:
    done = ratite("run", *words)
    assert done.returncode == status and why in done.stderr and "Traceback" not in done.stderr, done
    assert places.local() == [] and not list(places.machines_folder().iterdir())


def test_a_machine_that_is_not_started() -> None:
    done = ratite("run", *image("hello"), "--paused", "--detach", "--name", "waiting")
    assert (done.returncode, done.stdout) == (0, "waiting\n")
    (row,) = json.loads(ratite("ps", "--json").stdout)
    assert (row["phase"], row["status"]) == ("ready", "prelaunch")
    assert ratite("qmp", "waiting", "cont").returncode == 0


def test_a_daemon_that_dies(runtime: Path) -> None:
    words = [*COMMAND, "run", *image("echo"), "--name", "doomed"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment()) as run:
        assert run.stdout is not None and run.stderr is not None
        assert run.stdout.read(4) == b"echo"
        os.kill(places.find("doomed").record["pid"], signal.SIGKILL)
        assert run.wait(30) == 1 and b"ratite: the daemon ended" in run.stderr.read()
    assert places.local() == []


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_signals_end_the_machine_too(number: int, status: int) -> None:
    words = [*COMMAND, "run", *image("echo"), "--name", "short"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, env=environment()) as run:
        assert run.stdout is not None and run.stdout.read(4) == b"echo"
        run.send_signal(number)
        assert run.wait(30) == status
    assert places.local() == []


def test_texts_are_found_across_pieces_and_in_order() -> None:
    watch = Watch(["log", "in"], ["panic", "oops"])
    assert [watch.feed(piece) for piece in (b"in lo", b"g", b" i", b"n")] == ["", "", "", "expected"]
    watch = Watch(["done"], ["panic"])
    assert watch.feed(b"a pan") == "" and watch.missing == "done"
    assert watch.feed(b"ic, done") == "failed-text" and watch.found == "panic"
    watch = Watch(["done"], ["panic"])
    assert watch.feed(b"done panic") == "expected"
    watch = Watch([], ["\udcff!"])  # what the command line had was no UTF-8
    assert watch.feed(b"\xff") == ""
    assert watch.feed(b"!") == "failed-text"
    watch = Watch([], [])
    for _ in range(9):
        assert watch.feed(bytes(1 << 14)) == ""
    assert len(watch.tail) == 64 << 10


def test_what_is_compiled_is_read_from_the_log(tmp_path: Path) -> None:
    log = tmp_path / "log"
    assert compiling(log) == ""
    log.write_text('level=warning event="native code is compiled, once for this host: …" isa=rv64gc\n')
    assert compiling(log) == "compiling the interpreter of rv64gc, once for this host"
    log.write_text(log.read_text() + 'level=warning event="native code is ready" isa=rv64gc seconds=1.0\n')
    assert compiling(log) == ""


def test_progress_is_on_stderr_and_only_of_a_terminal() -> None:
    with Terminal("run", *image("hello")) as terminal:
        terminal.expect("assembling")
        terminal.expect("hello from rv64")
        assert terminal.ended() == 0
    assert "assembling" not in ratite("run", *image("hello")).stderr


# -- mistakes


@pytest.mark.parametrize(("words", "why"), [
    (["run", "nope.yaml"], "nope.yaml: can't be read: No such file or directory"),
    (["run", "riscv-virt/minmal"], "there is no profile 'riscv-virt/minmal' (did you mean 'riscv-virt/minimal'?)"),
    (["run", PROFILE, "--set", "image"], "--set must be NAME=VALUE, not 'image'"),
    (["run", PROFILE, "--set", "imge=x"], "there is no such parameter (did you mean 'image'?)"),
    (["run", PROFILE, "--set", "harts=1", "-s", "harts=2"], "--set gives harts twice"),
    (["run", PROFILE, "--console", "--detach"], "--console and --detach exclude each other"),
    (["run", PROFILE, "--chardev", "consle"], "there is no chardev 'consle'; did you mean console?; there are: console"),
    (["run", PROFILE, "--set", "console=pty", "--expect-text", "x"], "no console to attach: its chardev 'console' is 'pty'"),
    (["run", PROFILE, "--name", "a/b"], "a machine's name must be of letters"),
    (["run", PROFILE, "--timeout", "soon"], "'soon' is not a valid number of seconds"),
    (["compile", "nope.yaml"], "can't be read"),
    (["stop", "nothing"], "there is no machine 'nothing'; none runs (ratite ps)"),
    (["stop", "--all", "x"], "--all takes no names"),
    (["console", "nothing"], "there is no machine 'nothing'"),
    (["profiles", "nothing/at-all"], "there is no profile"),
])  # fmt: skip
def test_mistakes(words: list[str], why: str, capsys: pytest.CaptureFixture[str]) -> None:
    status = main.main(words)
    mistake(subprocess.CompletedProcess(words, status, *capsys.readouterr()), why)


def test_every_fault_of_a_file_is_told(tmp_path: Path) -> None:
    file = tmp_path / "board.yaml"
    file.write_text("ratite: 1\ndevices:\n  a: {type: no-such}\n  b: {type: ns16550, regshft: 2}\n")
    done = ratite("run", file)
    assert done.returncode == 2 and f"{file}:3:" in done.stderr and f"{file}:4:" in done.stderr
    assert all(line.startswith("ratite: ") for line in done.stderr.splitlines())
    file.write_text("ratite: [1\n")
    mistake(ratite("run", file), f"{file}:")


def test_two_of_one_name(background: str) -> None:
    mistake(ratite("run", *image("hello"), "--name", background), f"a machine '{background}' runs already")
    done = ratite("run", *image("echo"), "--detach")
    assert done.stdout.strip() == f"{background}-2"


# -- machines in the background


def test_ps_console_stop(background: str) -> None:
    assert background == "riscv-virt-minimal"
    (row,) = json.loads(ratite("ps", "--json").stdout)
    assert (row["name"], row["status"], row["cpus"], row["source"]) == (background, "running", 1, PROFILE)
    assert background in ratite("ps").stdout
    done = ratite("console", "--json")
    assert json.loads(done.stdout)["chardev"] == "console"
    done = ratite("console", background, text="hello\nq\n")
    assert "echo" in done.stdout and "HELLO" in done.stdout and done.returncode == 0
    assert ratite("ps").stdout == ""


def test_stop(background: str) -> None:
    assert json.loads(ratite("stop", background, "--json").stdout) == [{"name": background, "ended": True}]
    assert not list(places.machines_folder().iterdir())
    assert ratite("ps", "--json").stdout.strip() == "[]"
    mistake(ratite("stop"), "no machine runs")


def test_stop_by_force(background: str) -> None:
    pid = places.find(background).record["pid"]
    assert ratite("stop", "--force").returncode == 0
    assert not Path(f"/proc/{pid}").exists() or "Z" in Path(f"/proc/{pid}/stat").read_text()


def test_stop_of_a_socket(daemon: DaemonProcess) -> None:
    assert ratite("stop", "--qmp", daemon.address).returncode == 0
    assert daemon.process.wait(10) == 0


def test_console_of_another_daemon(daemon: DaemonProcess) -> None:
    with daemon.client() as qmp:
        qmp.execute("machine-create")
        mistake(ratite("console", "--qmp", daemon.address), "has no chardev of kind console: none at all")
        qmp.execute("chardev-add", {"id": "a", "backend": {"type": "null", "data": {}}})
        mistake(ratite("console", "--qmp", daemon.address), "has no chardev of kind console: a (null)")
        mistake(ratite("console", "--qmp", daemon.address, "--chardev", "a"), "can't be attached")
        for name in "b", "c":
            qmp.execute("chardev-add", {"id": name, "backend": {"type": "console", "data": {}}})
        mistake(ratite("console", "--qmp", daemon.address), "has several consoles")


# -- in a terminal


def test_run_with_a_console() -> None:
    with Terminal("run", *image("echo"), "--console") as terminal:
        terminal.expect("Ctrl-] q stops the machine")
        terminal.expect("echo")
        terminal.send("hello\r")
        terminal.expect("HELLO")
        terminal.send("\x1dd")
        assert terminal.ended() == 0
    (machine,) = places.local()
    with Terminal("console") as terminal:
        terminal.expect("HELLO")
        terminal.send("again\r")
        terminal.expect("AGAIN")
        terminal.send("\x1dq")
        assert terminal.ended() == 0
    with Terminal("console", machine.name) as terminal:
        terminal.expect("AGAIN")
        terminal.send("q\r")
        terminal.expect("has ended")
        assert terminal.ended() == 0


def test_control_c_is_the_guests() -> None:
    with Terminal("run", *image("echo"), "--console") as terminal:
        terminal.expect("echo")
        terminal.send("a\x03b\r")
        terminal.expect("A\x03B")
        terminal.send("\x1dq")
        assert terminal.ended() == 0
    assert places.local() == []


def test_the_terminal_is_as_it_was(background: str) -> None:
    import termios

    with Terminal("console", background) as terminal:
        terminal.expect("echo")
        terminal.send("\x1dq")
        assert terminal.ended() == 0
        assert terminal.flags() & termios.ECHO


def test_a_console_that_is_told_to_end_leaves_the_terminal_as_it_was(background: str) -> None:
    import termios

    for number in signal.SIGTERM, signal.SIGHUP:
        with Terminal("console", background) as terminal:
            terminal.expect("echo")
            assert not terminal.flags() & termios.ECHO
            os.kill(terminal.pid, number)
            assert terminal.ended() == 128 + number
            assert terminal.flags() & termios.ECHO


def test_a_console_without_standard_input(background: str) -> None:
    command = " ".join([*COMMAND, "run", *image("hello"), "--console", "<&-"])
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=60, env=environment())
    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, "hello from rv64", "")


# -- compile, schema, profiles


def test_compile_prints_what_a_shell_takes(daemon: DaemonProcess) -> None:
    lines = ratite("compile", *image("hello")).stdout.splitlines()
    commands = json.loads(ratite("compile", *image("hello"), "--json").stdout)
    with daemon.client() as qmp:
        vocabulary = Vocabulary(qmp.execute("query-qmp-schema"))
    read = [parse_line(line, vocabulary) for line in lines]
    assert [request[:2] for request in read] == [(row["execute"], row["arguments"]) for row in commands]
    done = ratite("qmp", "--qmp", daemon.address, "--json", "-", text="\n".join(lines[:-1]))
    assert done.returncode == 0, done.stderr


def test_texts_that_look_like_something_else(daemon: DaemonProcess) -> None:
    with daemon.client() as qmp:
        vocabulary = Vocabulary(qmp.execute("query-qmp-schema"))
    arguments = {"path": "/a b", "property": "", "value": 'he said "x"'}
    assert parse_line(line_of("qom-set", arguments), vocabulary).arguments == arguments
    arguments = {"path": "{", "property": "5", "value": {"a": [1, None]}}
    assert parse_line(line_of("qom-set", arguments), vocabulary).arguments == arguments


def test_schema_is_a_schema() -> None:
    import jsonschema

    schema = json.loads(ratite("schema").stdout)
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate({"ratite": 1, "devices": {"u": {"type": "ns16550"}}}, schema)


def test_dump_runs_again(background: str, tmp_path: Path) -> None:
    dumped = ratite("dump", background).stdout
    file = tmp_path / "again.yaml"
    file.write_text(dumped)
    done = ratite("run", file, "--detach")
    assert (done.returncode, done.stdout) == (0, "again\n"), done.stderr
    assert ratite("dump", "again").stdout == dumped
    assert json.loads(ratite("dump", "again", "--json").stdout)["ratite"] == 1
    mistake(ratite("dump"), "several machines run: name one of again, riscv-virt-minimal")


def test_from_dtb(tmp_path: Path, background: str) -> None:
    pytest.importorskip("fdt", reason="device trees are made by the package fdt")
    blob = tmp_path / "board.dtb"
    done = ratite("qmp", background, "dumpdtb", f"filename={blob}", "cpu=cpu0")
    assert done.returncode == 0, done.stderr
    done = ratite("from-dtb", blob)
    assert done.returncode == 0 and "ns16550" in done.stdout
    assert set(json.loads(ratite("from-dtb", blob, "--json").stdout)) == {"document", "unknown"}
    mistake(ratite("from-dtb", tmp_path / "none.dtb"), "none.dtb can't be read: No such file or directory")
    blob.write_bytes(b"no tree")
    mistake(ratite("from-dtb", blob), "board.dtb")


def test_profiles() -> None:
    rows = json.loads(ratite("profiles", "--json").stdout)
    assert {"name", "version", "newest", "path"} == set(rows[0]) and PROFILE in {row["name"] for row in rows}
    assert f"{PROFILE}@1" in ratite("profiles").stdout
    shown = ratite("profiles", PROFILE).stdout
    assert "parameter" in shown and "image" in shown
    assert "image" in [row["name"] for row in json.loads(ratite("profiles", PROFILE, "--json").stdout)]


def test_completion_of_machines_and_profiles(background: str) -> None:
    from click.shell_completion import ShellComplete

    complete = ShellComplete(main.command, {}, "ratite", "_RATITE_COMPLETE")
    assert [item.value for item in complete.get_completions(["stop"], "r")] == [background]
    assert [item.value for item in complete.get_completions(["qmp"], "r")] == [background]
    assert "query-status" in [item.value for item in complete.get_completions(["qmp", background], "query-")]
    assert "query-status" in [item.value for item in complete.get_completions(["qmp", "--qmp", "/x"], "query-")]
    assert PROFILE in [item.value for item in complete.get_completions(["run"], "risc")]
