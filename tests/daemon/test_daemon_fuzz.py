"""Random input: a little in every run, two million in the soak; and properties by hypothesis."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import fuzz_world
import pytest
from daemon_kit import Harness, views
from fuzz_input import PROBE
from fuzz_qmp import Fuzzer, check_answer, main
from hypothesis import given, settings
from hypothesis import strategies as st

from ratite.clients.qmp import DaemonProcess
from ratite.daemon.dispatch import Dispatcher
from ratite.daemon.qmp.monitor import Monitor
from ratite.daemon.qmp.session import Request

VIEW = views().get()
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=12,
)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.binary(max_size=30), max_size=6))
def test_any_bytes_leave_a_session_that_answers(pieces: list[bytes]) -> None:
    harness = Harness(VIEW)
    for piece in pieces:
        for answer in harness.feed(piece):
            check_answer(answer)
    answers = harness.feed(PROBE)
    assert answers[-1] == {"return": {}, "id": "probe"}
    whole = Harness(VIEW)
    assert (whole.feed(b"".join(pieces)) + whole.feed(PROBE))[-1] == answers[-1]


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(sorted(VIEW.commands)), JSON)
def test_any_arguments_get_one_answer(name: str, arguments: object) -> None:
    from json import dumps

    text = dumps({"execute": name, "arguments": arguments, "id": 1})
    harness = Harness(VIEW)
    (answer,) = harness.feed(text.encode())
    check_answer(answer)
    if not isinstance(arguments, dict):
        assert answer["error"]["desc"] == "QMP input member 'arguments' must be an object"


def test_a_short_run_of_the_fuzzer(tmp_path: Path, path: str) -> None:
    with DaemonProcess(path) as process:
        process.client().close()
        # Each kind of machine has its turn.
        words = f"--inputs 3000 --seed 7 --corpus {tmp_path} --world 640 --socket {path} --every 20"
        assert main(words.split()) == 0
        assert process.process.poll() is None


EXECUTE = Dispatcher.execute


def raises(self: Dispatcher, connection: Monitor, request: Request) -> None:
    raise RuntimeError("planted")


def never_answers(self: Dispatcher, connection: Monitor, request: Request) -> None:
    pass


def answers_twice(self: Dispatcher, connection: Monitor, request: Request) -> None:
    EXECUTE(self, connection, request)
    connection.session.reply(request, {})


def leaks(self: Dispatcher, connection: Monitor, request: Request) -> None:
    os.dup(0)
    EXECUTE(self, connection, request)


@pytest.mark.parametrize("fault", [raises, never_answers, answers_twice, leaks])
def test_the_fuzzer_finds_which_input_it_was(
    fault: Callable[[Dispatcher, Monitor, Request], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """One command has a fault."""

    def execute(self: Dispatcher, connection: Monitor, request: Request) -> None:
        (fault if request.name == "query-uuid" else EXECUTE)(self, connection, request)

    monkeypatch.setattr(Dispatcher, "execute", execute)
    if fault is never_answers:
        monkeypatch.setattr(fuzz_world, "PATIENCE", 2)
    assert main(f"--inputs 12800 --seed 3 --corpus {tmp_path} --world 640 --failures 1".split()) == 1
    said, found = capsys.readouterr().out, list(tmp_path.iterdir())
    assert any(
        b"query-uuid" in each.read_bytes() and f"input {each.stem.partition('-')[2]} of seed 3 failed" in said for each in found
    ), said


# Each ended in a fault of ours when it was first tried.
FOUND = (
    b'{"execute": "human-monitor-command", "arguments": {"command-line": "info jit"}}',  # CPUs that aren't wired yet
    # pages without end were looked up before the first was asked for
    b'{"execute": "memsave", "arguments": {"val": 2147483649, "size": 18446744073709551615, "filename": "t/new"}}',
    # no host's clock waits for so long: the thread of all byte streams ended
    b'{"execute": "chardev-add", "arguments": {"id": "c", "backend": {"type": "socket", "data": {'
    b'"reconnect-ms": 9223372036854775807, "server": false, "addr": {"type": "unix", "data": {"path": "t/nobody"}}}}}}',
    # a directory was opened, and never closed
    b'{"execute": "object-add", "arguments": {"qom-type": "secret", "id": "b", "file": "t"}}',
    # a balloon that isn't on its bus yet
    b'{"execute": "device_add", "arguments": {"driver": "virtio-balloon-pci", "id": "b"}}{"execute": "query-balloon"}',
)


@pytest.mark.parametrize("data", FOUND)
def test_what_fuzzing_found(data: bytes) -> None:
    Fuzzer(1).again(data)


@pytest.mark.soak
def test_two_million_inputs(tmp_path: Path, path: str) -> None:
    with DaemonProcess(path) as process:
        process.client().close()
        assert main(["--inputs", "2000000", "--corpus", str(tmp_path), "--socket", path]) == 0
        assert process.process.poll() is None
