"""Instances that lie, flood and hang: nobody else notices.  Beside them, what a client may do to an instance's monitor."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import sys
from collections.abc import Awaitable, Callable, Iterator
from types import SimpleNamespace
from typing import Any, cast

import pytest

from ratite.daemon.control import instance as instance_module
from ratite.daemon.control import metrics, qmplink
from ratite.daemon.control import peer as peer_module
from ratite.daemon.control import server as server_module
from ratite.daemon.control.gate import Gate, Refused
from ratite.daemon.control.instance import Instance
from ratite.daemon.control.peer import Peer
from ratite.daemon.control.plainjson import encode_command
from ratite.daemon.control.plane import ControlPlane, Settings
from ratite.daemon.control.qmplink import LinkBusy, LinkClosed, QmpLink, QmpRefusal
from ratite.daemon.log import Log
from ratite.daemon.main import RECURSION_LIMIT
from ratite.qapi.errors import QmpError
from ratite.qapi.wire import JsonStream

GREETING = b'{"QMP":{"version":{},"capabilities":[]}}\r\n'
READY = GREETING + b'{"return":{},"id":0}\r\n'


def run(work: Callable[[], Awaitable[None]]) -> None:
    async def limited() -> None:
        async with asyncio.timeout(20):
            await work()

    asyncio.run(limited())


async def closed(link: QmpLink) -> None:
    while not link.closed:
        await asyncio.sleep(0)


async def read_some(sock: socket.socket) -> bytes:
    sock.setblocking(False)
    return await asyncio.get_running_loop().sock_recv(sock, 1 << 16)


# -- what is no QMP


@pytest.mark.parametrize(
    "said",
    [
        b"nonsense\r\n", b"[]\r\n", b"7\r\n", b"{}\r\n", GREETING + GREETING, b'{"return":{},"id":0}\r\n',
        READY + b'{"return":{},"id":0}\r\n',
        READY + b'{"error":{"class":"GenericError","desc":"?"}}\r\n', READY + b'{"return":1,"id":99}\r\n',
        READY + b'{"id":1}\r\n', READY + b'{"error":5,"id":1}\r\n', READY + b'{"error":{"class":1},"id":1}\r\n',
        READY + b'{"event":"STOP"}\r\n', READY + b'{"event":"STOP","timestamp":3}\r\n', READY + b'{"return":NaN,"id":1}\r\n',
        READY + b'{"event":"STOP","data":7,"timestamp":{}}\r\n', READY + b'{"return":1e999,"id":1}\r\n', READY + b"\xff\r\n",
        READY + b"[" * 100_000 + b"\r\n", READY + b'{"return":{},"id":[1]}\r\n',
        GREETING + b'{"error":{"class":"a","desc":"b"},"id":0}\r\n',
    ],
)  # fmt: skip
def test_an_instance_that_talks_nonsense_loses_its_link_and_callers_hear_of_it(said: bytes) -> None:
    async def work() -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            events: list[dict[str, Any]] = []
            link = QmpLink(ours, asyncio.get_running_loop(), events.append)
            call = link.execute("query-status")
            theirs.sendall(said)
            with pytest.raises(LinkClosed):
                await call
            assert link.closed and not events

    run(work)


def test_a_line_without_end_ends_the_link(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(qmplink, "LINE_MAX", 1 << 17)

    async def work() -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            link = QmpLink(ours, asyncio.get_running_loop())
            theirs.setblocking(False)
            sending = asyncio.ensure_future(asyncio.get_running_loop().sock_sendall(theirs, b"x" * (1 << 20)))
            await closed(link)
            with pytest.raises(OSError):
                await sending

    run(work)


def test_what_an_instance_does_not_read_or_answer_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    async def work() -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            link = QmpLink(ours, asyncio.get_running_loop())
            theirs.sendall(READY)
            await link.ready
            calls = [link.execute("x", {"a": "y" * (1 << 20)}) for _ in range(40)]
            busy = [call for call in calls if call.done()]
            assert 10 <= len(calls) - len(busy) <= 18
            for call in busy:
                with pytest.raises(LinkBusy):
                    await call
            while not calls[0].done():
                # It reads again, and may be asked again.
                text = await read_some(theirs)
                if b'"id":1,' in text:
                    theirs.sendall(b'{"return":7,"id":1}\r\n')
            assert await calls[0] == 7
            link.close()

    run(work)
    monkeypatch.setattr(qmplink, "PENDING_MAX", 3)

    async def many() -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            link = QmpLink(ours, asyncio.get_running_loop())
            calls = [link.execute("x") for _ in range(5)]
            assert [call.done() for call in calls] == [False, False, False, True, True]
            link.close()

    run(many)


def test_descriptors_of_a_caller_who_is_cancelled_do_not_become_others() -> None:
    """What is sent late is what was given, not what has its number by then."""

    async def work() -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            link = QmpLink(ours, asyncio.get_running_loop())
            reader, writer = os.pipe()
            inode = os.fstat(writer).st_ino
            call = link.execute("getfd", {"fdname": "a"}, fds=(writer,))
            call.cancel()
            os.close(writer)
            other = os.open(os.devnull, os.O_RDONLY)
            assert other == writer, "its number is used again"
            theirs.sendall(READY)
            await link.ready
            got: list[int] = []
            while not got:
                _, got, _, _ = socket.recv_fds(theirs, 1 << 16, 4)
            assert [os.fstat(fd).st_ino for fd in got] == [inode]
            for fd in (reader, other, *got):
                os.close(fd)
            before = len(os.listdir("/proc/self/fd"))
            link.execute("getfd", {"fdname": "b"}, fds=(theirs.fileno(),))
            link.close()
            assert len(os.listdir("/proc/self/fd")) <= before - 1

    run(work)


# -- what an instance's monitor could not read


def nested(depth: int) -> list[Any]:
    made: list[Any] = []
    for _ in range(depth - 1):
        made = [made]
    return made


WORDS = [
    "\ud800",
    "\udc00x",
    "\ufffe",
    "\uffff",
    "\ufdd0",
    "\U0001fffe",
    "\\ufffe",
    "\\\ufffe",
    "😀",
    "\0",
    "a\\",
    "\ud83d\ude00",
]
VALUES = [*WORDS, 10**30, 10**308, 10**309, -(10**400), 1e308, [[1]], {"\ufffe": 1}, nested(1021)]
DEEP = [
    nested(1024),
    {"a": nested(3000)},
    [[]] * 2000,
    float("inf"),
    float("nan"),
]


@pytest.fixture
def deep() -> Iterator[None]:
    """As deep as the daemon goes."""
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(RECURSION_LIMIT)
    yield
    sys.setrecursionlimit(limit)


@pytest.mark.usefixtures("deep")
@pytest.mark.parametrize("value", [*VALUES, *DEEP], ids=[f"value{number}" for number in range(len(VALUES + DEEP))])
def test_a_command_is_sent_if_and_only_if_a_monitor_can_read_it(value: object) -> None:
    message = {"execute": "x", "arguments": {"a": value}, "id": 1}
    said = next(iter(JsonStream().feed(json.dumps(message).encode() + b"\n")))
    try:
        text = encode_command(message)
    except ValueError:
        assert isinstance(said, QmpError)
    else:
        assert list(JsonStream().feed(text + b"\n")) == [said] and not isinstance(said, QmpError)


def test_a_command_of_too_many_values() -> None:
    with pytest.raises(ValueError, match="token count"):
        encode_command({"execute": "x", "arguments": {"a": [1] * 1_100_000}})
    assert encode_command({"execute": "x", "arguments": {"a": "," * 1000}})


# -- instances


class FakePlane(SimpleNamespace):
    """What a Peer and an Instance need of a plane."""


def an_instance(in_process: bool = False, **limits: int) -> tuple[Instance, list[str]]:
    told: list[str] = []
    made = Instance(
        "a",
        asyncio.get_running_loop(),
        Log("error"),
        limits,
        in_process,
        lambda instance, event, data, when: told.append(event),
    )
    return made, told


def test_a_log_without_end_leaves_the_loop_to_others() -> None:
    async def work() -> None:
        made, _ = an_instance(log=1000)
        reader, writer = os.pipe()
        os.set_blocking(writer, False)
        made.watch_log(reader)
        # A read for each turn of the loop: whoever writes as fast as we read has no end.
        for _ in range(50):
            with pytest.raises(BlockingIOError):
                while True:
                    os.write(writer, b"x" * 4096)
            before = made.log_bytes
            made._read_log()
            assert made.log_bytes - before == instance_module.LOG_CHUNK
        assert made.log_text() == "x" * 1000
        made.finish(0)
        assert made.log_bytes < 50 * instance_module.LOG_CHUNK + 2 * instance_module.LOG_LAST
        os.close(writer)

    run(work)


@pytest.mark.parametrize("started", [False, True])
def test_an_instance_that_closes_its_monitor_and_stays_is_killed(monkeypatch: pytest.MonkeyPatch, started: bool) -> None:
    monkeypatch.setattr(instance_module, "END_SECONDS", 0.01)
    monkeypatch.setattr(instance_module, "STATUS_SECONDS", 0.01)

    async def work() -> None:
        child = await asyncio.create_subprocess_exec("sleep", "1000")
        made, _ = an_instance()
        ours, theirs = socket.socketpair()
        link = made.adopt(ours)
        made.born(child.pid, os.pidfd_open(child.pid))
        if started:
            theirs.sendall(READY)
            await link.ready
            made.state = instance_module.RUNNING
        theirs.close()
        assert (await made.ended)["reason"] == "killed"
        assert await child.wait() == -9

    run(work)


def test_an_end_whose_caller_has_gone_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(instance_module, "END_SECONDS", 0.01)
    monkeypatch.setattr(instance_module, "STATUS_SECONDS", 0.01)

    async def work() -> None:
        child = await asyncio.create_subprocess_exec("sleep", "1000")
        made, _ = an_instance()
        ours, theirs = socket.socketpair()
        with theirs:
            link = made.adopt(ours)
            made.born(child.pid, os.pidfd_open(child.pid))
            theirs.sendall(READY)
            await link.ready
            made.state = instance_module.RUNNING
            caller = asyncio.ensure_future(made.end())
            await asyncio.sleep(0)
            caller.cancel()
            assert (await made.ended)["reason"] == "killed"
        await child.wait()

    run(work)


def test_an_instance_in_process_that_hangs_is_let_go() -> None:
    async def work() -> None:
        made, _ = an_instance(in_process=True)
        ours, theirs = socket.socketpair()
        with theirs:
            link = made.adopt(ours)
            theirs.sendall(READY)
            await link.ready
            made.state = instance_module.RUNNING
            assert (await made.end(force=True))["reason"] == "killed"
            assert link.closed

    run(work)


def test_a_flood_of_events_does_not_cut_off_who_reads() -> None:
    async def work() -> None:
        plane = cast(Any, FakePlane(loop=asyncio.get_running_loop(), log=Log("error"), peers={}))
        sent: list[str] = []
        dropped: list[int] = []

        async def transmit(text: str) -> None:
            sent.append(text)

        peer = Peer(plane, transmit, lambda: dropped.append(1))
        for number in range(5000):
            peer.event(str(number), 16)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert len(sent) == 5000 and not dropped

    run(work)


def test_metrics_of_an_instance_that_lies() -> None:
    answers: list[dict[str, Any]] = [
        {}, {"query-status": 7}, {"query-status": {"running": "yes\nevil 1"}, "query-machine-phase": {}},
        {"query-status": {"running": True}, "query-machine-phase": {"phase": "running"}, "query-jit": [],
         "query-cpus-fast": [{"qom-path": "/c\nevil 1"}], "qom-get": "1\nevil 1"},
        {"query-status": {"running": True}, "query-machine-phase": {"phase": "running"},
         "query-jit": [{"cluster": 1, "tiers": [{}]}]},
        {"query-status": {"running": True}, "query-machine-phase": {"phase": "running"}, "query-jit": [], "query-cpus-fast": 3},
    ]  # fmt: skip

    async def work() -> None:
        loop = asyncio.get_running_loop()
        plane = ControlPlane(loop, Log("error"), Settings())
        for number, answer in enumerate(answers):
            made, _ = an_instance()
            made.name = f"a{number}"

            def execute(name: str, arguments: object = None, *, answer: dict[str, Any] = answer) -> asyncio.Future[Any]:
                future = loop.create_future()
                if name in answer:
                    future.set_result(answer[name])
                else:
                    future.set_exception(QmpRefusal({"class": "a", "desc": "b"}))
                return future

            made._link = cast(Any, SimpleNamespace(closed=False, execute=execute, close=lambda: None))
            plane.instances[made.name] = made
        text = await metrics.collect(plane)
        assert text.count("ratite_instance_up{") == len(answers)
        assert not [line for line in text.splitlines() if line.startswith("evil")]

    run(work)


def test_a_websocket_has_no_more_under_way_than_some_texts() -> None:
    async def work() -> None:
        plane = cast(Any, FakePlane(loop=asyncio.get_running_loop(), log=Log("error"), peers={}))
        peer = Peer(plane)
        assert not peer.busy
        peer.taken = peer_module.TAKEN_MAX + 1
        assert peer.busy

    run(work)


def test_refusals_are_logged_once_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    async def work() -> None:
        said: list[dict[str, Any]] = []
        log = cast(Any, SimpleNamespace(warning=lambda event, **fields: said.append(fields)))
        plane = ControlPlane(asyncio.get_running_loop(), log, Settings())
        server = server_module.ControlServer(plane, Gate())
        now = 10.0
        monkeypatch.setattr(server_module, "time", SimpleNamespace(monotonic=lambda: now))
        for wait in (0.0, 0.1, 0.1, 1.0):
            now += wait
            plane.refused += 1
            server._log_refusal(Refused(403, "no"))
        assert [fields["others"] for fields in said] == [0, 2]

    run(work)


def test_events_are_not_read_where_nobody_wants_them() -> None:
    async def work() -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            link = QmpLink(ours, asyncio.get_running_loop())
            call = link.execute("x")
            theirs.sendall(READY + b'{"timestamp": nobody looks}\r\n{"return":1,"id":1}\r\n'.replace(b": n", b":n"))
            assert await call == 1
            link.close()

    run(work)
