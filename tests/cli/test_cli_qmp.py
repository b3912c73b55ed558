"""`ratite qmp`: how a line is read, what completes, one command, many from stdin, the shell; and `ratite top`."""

from __future__ import annotations

import contextlib
import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest
from cli_kit import Terminal, mistake, ratite
from prompt_toolkit.completion import CompleteEvent
from prompt_toolkit.document import Document

from ratite.clients.cli import main, top
from ratite.clients.cli.shell import Words
from ratite.clients.cli.vocabulary import Vocabulary
from ratite.clients.cli.words import LineError, integer, parse_line, split
from ratite.clients.qmp import DaemonProcess

# What introspection looks like, with every kind of type.
SCHEMA: list[dict[str, Any]] = [
    {"name": "make", "meta-type": "command", "arg-type": "0", "ret-type": "9"},
    {"name": "quit", "meta-type": "command", "arg-type": "9", "ret-type": "9"},
    {"name": "STOP", "meta-type": "event", "arg-type": "9"},
    {"name": "0", "meta-type": "object", "tag": "kind", "members": [
        {"name": "kind", "type": "1"}, {"name": "id", "type": "str"}, {"name": "count", "type": "int", "default": None},
        {"name": "on", "type": "bool", "default": None}, {"name": "part", "type": "2", "default": None},
        {"name": "many", "type": "[int]", "default": None}, {"name": "ratio", "type": "number", "default": None},
        {"name": "what", "type": "any", "default": None}, {"name": "either", "type": "3", "default": None}],
     "variants": [{"case": "big", "type": "4"}, {"case": "small", "type": "9"}]},
    {"name": "1", "meta-type": "enum", "members": [{"name": "big"}, {"name": "small"}]},
    {"name": "2", "meta-type": "object", "members": [{"name": "type", "type": "1"}, {"name": "path", "type": "str"}]},
    {"name": "3", "meta-type": "alternate", "members": [{"type": "int"}, {"type": "1"}]},
    {"name": "4", "meta-type": "object", "members": [{"name": "weight", "type": "int"}]},
    {"name": "9", "meta-type": "object", "members": []},
    {"name": "[int]", "meta-type": "array", "element-type": "int"},
    *({"name": name, "meta-type": "builtin", "json-type": kind} for name, kind in (
        ("str", "string"), ("int", "int"), ("bool", "boolean"), ("number", "number"), ("any", "value"))),
]  # fmt: skip
DOCS = {"make": {"text": "Make a thing.  Slowly.", "members": {"id": "its\nname"}, "returns": "nothing", "since": "0.1"}}
WORDS = Vocabulary(SCHEMA, DOCS)


@pytest.mark.parametrize(("line", "arguments"), [
    ("make id=5", {"id": "5"}),
    ("make id='a b' count=0x10", {"id": "a b", "count": 16}),
    ('make id="tab\\there" on=off', {"id": "tab\there", "on": False}),
    ("make id=x=y count=-3", {"id": "x=y", "count": -3}),
    ("make count=16M on=yes ratio=1.5", {"count": 16 << 20, "on": True, "ratio": 1.5}),
    ('make part={"type": "big", "path": "/a b"}', {"part": {"type": "big", "path": "/a b"}}),
    ("make part.type=small part.path=7", {"part": {"type": "small", "path": "7"}}),
    ("make many=1,0x2,3K", {"many": [1, 2, 3072]}),
    ("make many=[1, 2]", {"many": [1, 2]}),
    ("make many=", {"many": []}),
    ("make what=12 kind=big weight=1_000", {"what": 12, "kind": "big", "weight": 1000}),
    ("make what=true", {"what": True}),
    ("make what=word", {"what": "word"}),
    ("make either=3", {"either": 3}),
    ("make either=big", {"either": "big"}),
    ("make kind=small weight=x", {"kind": "small", "weight": "x"}),
    ('{"execute": "make", "arguments": {"id": 1}}', {"id": 1}),
    ("  make  ", {}),
])  # fmt: skip
def test_lines(line: str, arguments: dict[str, Any]) -> None:
    assert parse_line(line, WORDS).arguments == arguments


def test_out_of_band() -> None:
    assert parse_line('{"exec-oob": "make"}', WORDS).oob


@pytest.mark.parametrize(("line", "why"), [
    ("mke id=5", "there is no command 'mke'; did you mean make?"),
    ("make 5", "an argument must be KEY=VALUE, not '5'"),
    ("make =5", "an argument must be KEY=VALUE, not '=5'"),
    ("make count=ten", "count must be a whole number (10, 0x10, 16M), not 'ten'"),
    ("make on=perhaps", "on must be on or off, not 'perhaps'"),
    ("make ratio=half", "ratio must be a number, not 'half'"),
    ("make part=x", "part must be an object"),
    ("make part={1}", "part is no JSON"),
    ("make part={", "the bracket at column 6 must be closed"),
    ("make id='x", "the quote at column 9 must be closed"),
    ("make id=1 id=2", "id is given twice"),
    ("make part={} part.type=big", "part.type is given twice"),
    ("make part.type=big part={}", "part is given twice"),
    ("make id=1 id.x=2", "id.x is given, and id as a whole too"),
    ("{", "no JSON"), ('{"arguments": {}}', "a JSON command must be"), ("  ", "a command is missing"),
])  # fmt: skip
def test_lines_that_are_no_commands(line: str, why: str) -> None:
    if why.startswith("part.type is given twice"):
        assert parse_line(line, WORDS).arguments == {"part": {"type": "big"}}
        return
    with pytest.raises(LineError) as wrong:
        parse_line(line, WORDS)
    assert why in str(wrong.value)


@pytest.mark.parametrize(("text", "number"), [
    ("10", 10), ("010", 10), ("0x1f", 31), ("0b11", 3), ("2K", 2048), ("1MiB", 1 << 20), ("1GB", 1 << 30), ("-1", -1),
    ("", None), ("x", None), ("1.5", None), ("K", None), ("1 K", None),
])  # fmt: skip
def test_integers(text: str, number: int | None) -> None:
    assert integer(text) == number


def test_words_hold_together() -> None:
    assert split("""a b={"x": "}"} c='d e' f="g\\" h" i'j""") == ["a", 'b={"x": "}"}', "c='d e'", 'f="g\\" h"', "i'j"]


@pytest.mark.parametrize(("line", "wanted"), [
    ("ma", ["make "]), ("q", ["quit "]), ("h", ["help ", "hmp "]), ("help m", ["make "]),
    ("make k", ["kind="]), ("make kind=", ["big ", "small "]), ("make kind=b", ["big "]),
    ("make kind=big w", ["weight=", "what="]), ("make kind=small w", ["what="]), ("make on=", ["on ", "off "]),
    ("make p", ["part."]), ("make part.", ["part.type=", "part.path="]), ("make part.type=s", ["small "]),
    ("make id=1 i", []), ("make either=", ["big ", "small "]), ("nope x", []), ("make part={", []), ("hmp info", []),
])  # fmt: skip
def test_completions(line: str, wanted: list[str]) -> None:
    found = Words(lambda: WORDS).get_completions(Document(line), CompleteEvent())
    assert sorted(completion.text for completion in found) == sorted(wanted)


def test_help_of_a_command() -> None:
    text = WORDS.help("make")
    for part in (
        "Make a thing.", "kind: one of: big, small", "id: string\n      its name", "count (optional): int", "Returns: nothing",
        "many (optional): array of int", "further members are those of the kind chosen", "Since: 0.1",
    ):  # fmt: skip
        assert part in text
    assert WORDS.summary("make") == "Make a thing" and "(no description)" in WORDS.help("quit")


# -- over a socket


def test_one_command(daemon: DaemonProcess) -> None:
    done = ratite("qmp", "--qmp", daemon.address, "query-status")
    assert (done.returncode, json.loads(done.stdout)["running"]) == (0, False)
    path = daemon.address.removeprefix("unix:")
    assert json.loads(ratite("qmp", path, "query-machine-phase", "--json").stdout) == {"return": {"phase": "none"}}
    assert json.loads(ratite("qmp", path, '{"execute": "query-view"}').stdout)["generation"] == 0
    assert ratite("qmp", path, "human-monitor-command", "command-line=info status").stdout.startswith("VM status: ")


def test_a_command_that_is_refused(daemon: DaemonProcess) -> None:
    done = ratite("qmp", "--qmp", daemon.address, "--json", "qom-get", "path=/nope", "property=x")
    assert done.returncode == 1 and json.loads(done.stdout)["error"]["class"] == "DeviceNotFound"
    assert done.stderr == "ratite: qom-get: Device '/nope' not found\n"
    mistake(ratite("qmp", "--qmp", daemon.address, "qom-gt"), "there is no command 'qom-gt'; did you mean qom-get")
    mistake(ratite("qmp", "--qmp", daemon.address, "query-status", "x"), "an argument must be KEY=VALUE, not 'x'")


def test_lines_from_standard_input(daemon: DaemonProcess) -> None:
    lines = (
        "# a machine\nmachine-create\n\nobject-add qom-type=memory-backend-ram id=ram size=1M\n"
        "qom-get path=/objects/ram property=size\n"
    )
    done = ratite("qmp", "--qmp", daemon.address, "--json", text=lines)
    assert (done.returncode, [json.loads(line)["return"] for line in done.stdout.splitlines()]) == (0, [{}, {}, 1 << 20])
    done = ratite("qmp", "--qmp", daemon.address, "-", text="qom-get path=/x property=y\nquery-status\n")
    assert done.returncode == 1 and done.stdout == "" and "line 1: qom-get: Device '/x' not found" in done.stderr
    done = ratite("qmp", "--qmp", daemon.address, "-k", text="nope\nquery-name\n")
    assert done.returncode == 2 and done.stdout == "{}\n" and "line 1: there is no command 'nope'" in done.stderr


def test_lines_learn_the_new_view(daemon: DaemonProcess) -> None:
    """A property that only a schema after VIEW_CHANGED tells the type of is read as that type."""
    lines = (
        "machine-create\nobject-add qom-type=address-space id=v\n"
        "object-add qom-type=cpu-cluster id=c target=riscv64 address-space=v\nquery-target\n"
    )
    done = ratite("qmp", "--qmp", daemon.address, "--json", text=lines)
    assert done.returncode == 0 and json.loads(done.stdout.splitlines()[-1]) == {"return": {"arch": "riscv64"}}


def test_help_from_the_command_line(daemon: DaemonProcess) -> None:
    done = ratite("qmp", "--qmp", daemon.address, "--help-for", "wire-irq")
    assert done.returncode == 0 and "from: string\n      path or id of the device that drives the line" in done.stdout
    about = json.loads(ratite("qmp", "--qmp", daemon.address, "--help-for", "wire-irq", "--json").stdout)
    assert (about["name"], about["kind"], about["text"]) == ("wire-irq", "command", done.stdout[:-1])
    assert {"name": "from", "type": "string", "optional": False} in about["arguments"]
    mistake(ratite("qmp", "--qmp", daemon.address, "--help-for", "wire-iqr"), "did you mean wire-irq")


def test_what_is_no_daemon(runtime: Path) -> None:
    (runtime / "file").write_text("")
    mistake(ratite("qmp", "--qmp", runtime / "file", "query-status"), "nobody listens at")


def test_a_daemon_that_dies_under_a_command(daemon: DaemonProcess) -> None:
    done = ratite("qmp", "--qmp", daemon.address, "-", text="quit\nquery-status\n")
    assert done.returncode == 1 and done.stderr == "ratite: the server has closed the connection\n"


# -- the shell


def test_the_shell(daemon: DaemonProcess, runtime: Path) -> None:
    with Terminal("qmp", "--qmp", daemon.address) as terminal:
        terminal.expect("ratite 0.1.0. Tab completes")
        terminal.expect("qmp>")
        terminal.send("machine-cr\t")
        terminal.expect("machine-create")
        terminal.send("\r")
        terminal.expect("{}")
        terminal.send("help wire-irq\r")
        terminal.expect("path or id of the device that drives the line")
        terminal.send("object-add qom-type=cpu-cl\t")
        terminal.expect("cpu-cluster")
        terminal.send("id=rv target=riscv64 address-space=v\r")
        terminal.expect("VIEW_CHANGED")
        terminal.send("query-target\r")
        terminal.expect('"arch": "riscv64"')
        terminal.send("nope\r")
        terminal.expect("there is no command 'nope'")
        terminal.send("qom-get path=/nope property=x\r")
        terminal.expect("Device '/nope' not found")
        terminal.send("hmp info phase\r")
        terminal.expect("created")
        terminal.send("exit\r")
        assert terminal.ended() == 0
    history = runtime / "state" / "ratite" / "qmp-history"
    assert "+machine-create" in history.read_text() and history.stat().st_mode & 0o077 == 0


def test_events_come_above_the_prompt_and_the_end_ends_the_shell(daemon: DaemonProcess) -> None:
    with Terminal("qmp", "--qmp", daemon.address) as terminal:
        terminal.expect("qmp>")
        with daemon.client() as other:
            other.execute("machine-create")
            other.execute("object-add", {"qom-type": "cpu-cluster", "id": "mb", "target": "microblaze", "address-space": "v"})
            terminal.expect("VIEW_CHANGED")
            other.execute("quit")
        terminal.expect("SHUTDOWN")
        terminal.expect("the server has closed the connection")
        assert terminal.ended() == 1


def test_the_history_is_the_users_alone(runtime: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from prompt_toolkit.history import FileHistory, InMemoryHistory

    from ratite.clients.cli.shell import history_file

    place = runtime / "state" / "ratite" / "qmp-history"
    place.parent.mkdir(parents=True)
    place.touch(0o644)
    place.chmod(0o644)
    assert isinstance(history_file(), FileHistory)
    assert place.stat().st_mode & 0o777 == 0o600
    monkeypatch.delenv("XDG_STATE_HOME")
    monkeypatch.setattr("os.path.expanduser", lambda path: path)  # of a user who has no home
    assert isinstance(history_file(), InMemoryHistory)


def test_control_d_leaves_and_control_c_does_not(daemon: DaemonProcess) -> None:
    with Terminal("qmp", "--qmp", daemon.address) as terminal:
        terminal.expect("qmp>")
        terminal.send("query-st\x03")
        terminal.expect("qmp>")
        terminal.send("query-name\r")
        terminal.expect("{}")
        terminal.expect("qmp>")  # before that the terminal itself would take the key
        terminal.send("\x04")
        assert terminal.ended() == 0


def test_control_c_stops_the_waiting_for_an_answer(daemon: DaemonProcess) -> None:
    with Terminal("qmp", "--qmp", daemon.address) as terminal:
        terminal.expect("qmp>")
        os.kill(daemon.process.pid, signal.SIGSTOP)
        try:
            terminal.send("query-version\r")
            for _ in range(60):  # a key that comes before the shell waits is for the line
                terminal.send("\x03")
                with contextlib.suppress(AssertionError):
                    terminal.expect("(not waited for; the command goes on)", timeout=1)
                    break
            else:
                pytest.fail(terminal.text)
        finally:
            os.kill(daemon.process.pid, signal.SIGCONT)
        terminal.send("query-machine-phase\r")
        terminal.expect('"phase": "none"')
        assert '"qemu"' not in terminal.text, "the late answer is nobody's"
        terminal.send("exit\r")
        assert terminal.ended() == 0


# -- top


def test_rates_between_two_samples() -> None:
    def counted(instructions: int, native: int) -> dict[str, Any]:
        return {"target": "t", "state": "running", "instructions": instructions, "compiled-instructions": native,
                "exits": instructions // 1000, "traps": 7}  # fmt: skip

    before = top.Sample(10.0, "running", {"/a": counted(1_000_000, 0)}, [])
    after = top.Sample(12.0, "running", {"/a": counted(5_000_000, 3_000_000), "/b": {**counted(9, 9)}}, [])
    shown = top.report("m", before, after)
    assert shown["seconds"] == 2 and [cpu["mips"] for cpu in shown["cpus"]] == [2.0, 0.0]
    assert shown["cpus"][0]["compiled"] == 0.75 and shown["cpus"][0]["exits-per-second"] == 2000
    assert top.cpu_rows(shown)[0] == ("/a", "t", "running", "2.0", "75 %", "2.0 k", "0", "5.0 M")


def test_top_of_a_machine_that_computes(counting: DaemonProcess) -> None:
    done = ratite("top", "--qmp", counting.address, "--once", "--json", "--interval", "0.3")
    shown = json.loads(done.stdout)
    (cpu,) = shown["cpus"]
    assert cpu["path"] == "/machine/peripheral/cpu" and cpu["target"] == "riscv64"
    assert {tier["tier"] for tier in shown["clusters"][0]["tiers"]} == {1, 2}
    if shown["status"] == "running":  # else the guest was done before
        assert cpu["instructions"] > 0 and cpu["mips"] > 0
    done = ratite("top", "--qmp", counting.address, "-n", "2", "-i", "0.1")
    assert done.returncode == 0 and done.stdout.count("exits/s") == 2


def test_top_of_no_machine(daemon: DaemonProcess) -> None:
    done = ratite("top", "--qmp", daemon.address, "--once", "-i", "0.05")
    assert done.returncode == 0 and "0 CPUs" in done.stdout


def test_top_live(counting: DaemonProcess) -> None:
    with Terminal("top", "--qmp", counting.address, "-i", "0.1") as terminal:
        terminal.expect("1 CPUs")
        terminal.expect("Ctrl-C leaves")
        terminal.send("\x03")
        assert terminal.ended() == 130


def test_top_ends_with_its_daemon(daemon: DaemonProcess, capsys: pytest.CaptureFixture[str]) -> None:
    with daemon.client() as qmp:
        qmp.execute("quit")
    daemon.process.wait(10)
    assert main.main(["top", "--qmp", daemon.address, "--once"]) == 2
    assert "nobody listens at" in capsys.readouterr().err
