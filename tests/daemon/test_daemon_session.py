"""The session without a socket: order, out of band, limits, events, descriptors."""

from __future__ import annotations

import json
import os

import pytest
from daemon_kit import CAPABILITIES, Harness, views

from ratite.daemon.qmp.events import EventHub, event_line
from ratite.daemon.qmp.session import EVENT_LIMIT, FD_LIMIT, OUTPUT_LIMIT, OVERRUN, QUEUE_DEPTH, RawJson
from ratite.qapi.errors import GenericError


def command(name: str, id: object = None, oob: bool = False) -> bytes:
    message = {"exec-oob" if oob else "execute": name}
    if id is not None:
        message["id"] = id  # type: ignore[assignment]
    return json.dumps(message).encode()


def ids(lines: list[dict]) -> list:
    return [line.get("id") for line in lines]


def test_in_band_commands_end_in_order() -> None:
    harness = Harness()
    harness.slow = {"query-name"}
    harness.feed(command("query-name", 1) + command("query-status", 2) + command("nope", 3) + b"{}")
    assert harness.executed == ["query-name"]
    assert harness.lines() == []
    harness.release()
    lines = harness.lines()
    assert ids(lines) == [1, 2, 3, None]
    assert lines[3]["error"]["desc"] == "QMP input lacks member 'execute'"


def test_out_of_band_overtakes() -> None:
    harness = Harness(oob=True)
    harness.slow = {"query-name"}
    lines = harness.feed(command("query-name", 1) + command("query-status", 2) + command("query-view", "o", oob=True))
    # Nothing of this version may be executed out of band but is answered out of band all the same.
    assert ids(lines) == ["o"]
    assert lines[0]["error"]["desc"] == "The command query-view does not support OOB"
    harness.release()
    assert ids(harness.lines()) == [1, 2]


def test_out_of_band_is_executed_past_the_queue() -> None:
    harness = Harness(oob=True)
    harness.slow = {"query-name", "query-machine-phase"}
    harness.feed(command("query-name", 1) + command("query-machine-phase", "o", oob=True) + command("query-status", 2))
    assert harness.executed == ["query-name", "query-machine-phase"]
    harness.session.reply(harness.held.pop(), {"phase": "none"})
    assert ids(harness.lines()) == ["o"]
    harness.release()
    assert ids(harness.lines()) == [1, 2]


@pytest.mark.parametrize("member", ["execute", "exec-oob"])
def test_both_ways_of_execution_clash(member: str) -> None:
    harness = Harness(oob=True)
    other = {"execute": "exec-oob", "exec-oob": "execute"}[member]
    (line,) = harness.feed(f'{{"{member}":"query-status","{other}":"query-status"}}'.encode())
    assert line["error"]["desc"] == "QMP input member 'execute' clashes with 'exec-oob'"


def test_queue_is_eight_deep_and_stops_reading() -> None:
    harness = Harness(oob=True)
    harness.slow = {"query-name"}
    session = harness.session
    harness.feed(command("query-name", 0))
    for number in range(QUEUE_DEPTH):
        assert session.wants_input
        harness.feed(command("query-status", number))
    assert not session.wants_input
    # What came in the same chunk waits unlooked-at until there is room, then it overtakes.
    harness.feed(command("query-machine-phase", "o", oob=True))
    assert harness.executed == ["query-name"]
    harness.release()
    assert ids(harness.lines()) == [0, 0, "o", *range(1, QUEUE_DEPTH)]
    assert session.wants_input


def test_nothing_is_read_or_executed_while_a_mebibyte_is_unsent() -> None:
    harness = Harness()
    harness.slow = {"query-qmp-schema"}
    session = harness.session
    harness.feed(command("query-qmp-schema", 1) + command("query-status", 2))
    session.reply(harness.held.pop(), RawJson(b'"' + b"x" * (OUTPUT_LIMIT + 1) + b'"'))
    harness.pump()
    assert not session.wants_input
    assert harness.executed == ["query-qmp-schema"]
    data = session.output()
    session.sent(len(data))
    harness.pump()
    assert session.wants_input
    assert ids(harness.lines()) == [2]


def _clogged() -> Harness:
    harness = Harness()
    harness.slow = {"query-name"}
    harness.feed(command("query-name", 1), send=False)
    harness.session.reply(harness.held.pop(), "x" * (OUTPUT_LIMIT + 1))
    return harness


def test_state_like_events_replace_each_other() -> None:
    harness = _clogged()
    for number in range(5000):
        name = "STOP" if number % 2 else "RESUME"
        harness.session.event(name, event_line(name, {}))
        harness.session.event("VIEW_CHANGED", event_line("VIEW_CHANGED", {"generation": number, "targets": []}))
    lines = harness.lines()
    assert [line.get("event") for line in lines] == [None, "STOP", "VIEW_CHANGED"]
    assert lines[2]["data"]["generation"] == 4999


def test_a_reader_that_never_drains_is_given_up() -> None:
    harness = _clogged()
    for number in range(EVENT_LIMIT):
        harness.session.event("RESET", event_line("RESET", {"n": number}))
    assert harness.session.state != OVERRUN
    harness.session.event("RESET", event_line("RESET", {}))
    assert harness.session.state == OVERRUN
    assert not harness.session.wants_input


def test_events_keep_their_place_before_a_reply() -> None:
    harness = Harness()
    harness.slow = {"stop"}
    harness.feed(command("stop", 1))
    harness.session.event("STOP", event_line("STOP", {}))
    harness.release()
    assert [line.get("event") for line in harness.lines()] == ["STOP", None]
    harness = _clogged()
    harness.feed(b"", send=False)
    harness.session.event("RESET", event_line("RESET", {}))
    harness.session.busy = True
    harness.session.reply(harness.session.next_request() or _request(), {})
    assert [line.get("event", "reply") for line in harness.lines()] == ["reply", "RESET", "reply"]


def _request() -> object:
    from ratite.daemon.qmp.session import Request

    return Request({"execute": "query-name", "id": 9}, False)


def test_no_event_before_negotiation() -> None:
    harness = Harness(negotiate=False)
    harness.session.event("STOP", event_line("STOP", {}))
    assert harness.feed(CAPABILITIES) == [{"return": {}}]


def test_unclaimed_descriptors_are_bounded_and_closed() -> None:
    harness = Harness()
    fds = [os.dup(0) for _ in range(FD_LIMIT + 3)]
    harness.slow = {"add-fd"}
    for fd in fds:
        harness.session.receive(command("add-fd"), [fd])
    assert harness.session.fds_refused == 3
    for fd in fds[FD_LIMIT:]:
        with pytest.raises(OSError, match="Bad file"):
            os.fstat(fd)
    harness.pump()
    first = harness.session.take_fd()
    assert first == fds[0]
    os.close(first)
    harness.release()
    harness.session.named_fds["a"] = harness.session.take_fd()
    harness.session.close()
    for fd in fds:
        with pytest.raises(OSError, match="Bad file"):
            os.fstat(fd)
    with pytest.raises(GenericError, match="No file descriptor supplied via SCM_RIGHTS"):
        harness.session.take_fd()


class Handed:
    """Files that a client sends along, and which of them the session gives to the commands that take one."""

    def __init__(self) -> None:
        self.harness = Harness()
        self.harness.slow = {"add-fd", "getfd"}
        self._numbers: dict[str, int] = {}

    def send(self, data: bytes, *names: str) -> None:
        fds = []
        for name in names:
            fd = os.memfd_create(name)
            self._numbers[name] = fd
            fds.append(fd)
        self.harness.session.receive(data, fds)

    def taken(self, data: bytes, *names: str) -> str:
        """Which file a command gets, "" if none."""
        self.send(data, *names)
        return self.next()

    def next(self) -> str:
        self.harness.pump()
        try:
            fd = self.harness.session.take_fd()
        except GenericError:
            name = ""
        else:
            name = os.readlink(f"/proc/self/fd/{fd}").removeprefix("/memfd:").removesuffix(" (deleted)")
            os.close(fd)
        self.harness.release()
        return name

    def open(self) -> list[str]:
        """The files that are open yet."""
        return [name for name, fd in self._numbers.items() if os.path.exists(f"/proc/self/fd/{fd}")]


TAKES, OTHER = command("add-fd"), command("query-status")


@pytest.mark.skipif(not hasattr(os, "memfd_create"), reason="needs Linux")
def test_a_descriptor_goes_to_the_command_that_it_came_with() -> None:
    # What QEMU was seen to do, and, of commands in a row, what it can't tell apart.
    handed = Handed()
    assert handed.taken(TAKES, "plain") == "plain"
    assert handed.taken(TAKES, "first", "second") == "first"
    assert handed.taken(TAKES) == ""
    handed.send(OTHER, "astray")
    assert handed.taken(TAKES, "mine") == "mine"
    assert handed.taken(TAKES) == ""
    assert handed.open() == []


@pytest.mark.skipif(not hasattr(os, "memfd_create"), reason="needs Linux")
def test_a_descriptor_for_a_command_that_takes_none_waits_for_one_that_does() -> None:
    handed = Handed()
    handed.send(OTHER, "a", "b")
    handed.send(OTHER, "c")
    assert handed.taken(TAKES) == "c"
    for garbage in (b"}", b'"x"', b'{"execute":1}', command("getfd")[:-1] + b',"arguments":[]}'):
        handed.send(garbage, "with garbage")
        assert handed.taken(TAKES) == "with garbage"
    handed.harness.lines()
    assert handed.open() == []


@pytest.mark.skipif(not hasattr(os, "memfd_create"), reason="needs Linux")
def test_descriptors_of_commands_in_a_row_and_in_pieces() -> None:
    handed = Handed()
    handed.send(TAKES, "one")
    handed.send(TAKES, "two")
    handed.send(TAKES[:9])
    handed.send(TAKES[9:], "three")
    handed.send(TAKES[:9], "four")
    handed.send(TAKES[9:] + TAKES, "five")
    assert [handed.next() for _ in range(5)] == ["one", "two", "three", "four", "five"]
    assert handed.taken(TAKES) == ""
    # A stream that tells of descriptors first, and then of the bytes.
    handed.send(b"", "six")
    assert handed.taken(TAKES) == "six"
    assert handed.open() == []


# ---------------------------------------------------------------- events


class Clock:
    def __init__(self) -> None:
        self.timers: list = []

    def call_later(self, seconds: float, fn: object) -> None:
        assert seconds == 1.0
        self.timers.append(fn)

    def tick(self) -> None:
        due, self.timers = self.timers, []
        for fn in due:
            fn()


class Listener:
    """As much of a session and a view as the hub sees; the view has every event."""

    def __init__(self) -> None:
        self.view = self
        self.got: list = []

    def event_data(self, name: str, data: dict) -> dict:
        return data

    def event(self, name: str, line: bytes) -> None:
        self.got.append(json.loads(line))


def test_throttled_events_come_once_a_second_with_the_last_value() -> None:
    clock, listener = Clock(), Listener()
    hub = EventHub(lambda: [listener], clock.call_later)  # type: ignore[list-item]
    for number in range(10):
        hub.emit("BALLOON_CHANGE", {"actual": number})
    assert [event["data"]["actual"] for event in listener.got] == [0]
    clock.tick()
    assert [event["data"]["actual"] for event in listener.got] == [0, 9]
    clock.tick()
    clock.tick()
    hub.emit("BALLOON_CHANGE", {"actual": 11})
    assert [event["data"]["actual"] for event in listener.got] == [0, 9, 11]


def test_throttling_tells_objects_apart() -> None:
    clock, listener = Clock(), Listener()
    hub = EventHub(lambda: [listener], clock.call_later)  # type: ignore[list-item]
    for path in ("/a", "/b", "/a", "/b"):
        hub.emit("RTC_CHANGE", {"offset": 1, "qom-path": path})
        hub.emit("STOP")
    assert [event["event"] for event in listener.got].count("RTC_CHANGE") == 2
    assert [event["event"] for event in listener.got].count("STOP") == 4


def test_event_form() -> None:
    line = event_line("RESET", {"guest": True}, 1_234_567_891_011)
    timestamp = b'"timestamp":{"seconds":1234,"microseconds":567891}'
    assert line == b"{" + timestamp + b',"event":"RESET","data":{"guest":true}}\r\n'
    assert b"data" not in event_line("STOP", {})


# ---------------------------------------------------------------- views


def test_views_differ_by_personality_and_targets() -> None:
    cache = views()
    none, one = cache.get(), cache.get("ratite", ["riscv64"])
    both = cache.get("ratite", ["microblaze", "riscv64"])
    qemu, other = cache.get("qemu", ["riscv64"]), cache.get("qemu", ["microblaze"])
    assert cache.get("ratite", ("riscv64", "microblaze")) is both
    assert none.find("query-cpu-definitions") is None
    assert one.find("query-cpu-definitions") is not None
    assert other.find("query-cpu-definitions") is None
    assert "HETEROGENEOUS" in both.facts
    with pytest.raises(GenericError, match="Parameter 'target' is unexpected"):
        one.commands["query-cpu-definitions"].check({"target": "riscv64"})
    assert both.commands["query-cpu-definitions"].check({"target": "riscv64"})
    assert none.find("query-view") and not qemu.find("query-view")
    assert qemu.event_data("VIEW_CHANGED", {}) is None
    panic = {"action": "pause", "cpu": {"path": "/x", "pc": 0, "cause": "y"}}
    assert one.event_data("GUEST_PANICKED", panic) == panic
    assert qemu.event_data("GUEST_PANICKED", panic) == {"action": "pause"}


def test_object_add_is_a_union_over_the_registry_in_ratites_views_only() -> None:
    ratite, qemu = views().get(), views().get("qemu", ["riscv64"])
    check = ratite.commands["object-add"]
    assert ratite.check(check, {"qom-type": "memory-backend-ram", "id": "a", "size": 1})
    with pytest.raises(GenericError, match="Parameter 'share' is unexpected"):
        ratite.check(check, {"qom-type": "memory-backend-ram", "id": "a", "size": 1, "share": True})
    assert qemu.check(qemu.commands["object-add"], {"qom-type": "memory-backend-ram", "id": "a", "size": 1, "share": True})
    by_name = {entry["name"]: entry for entry in ratite.tables.introspect()}
    arguments = by_name[by_name["device_add"]["arg-type"]]
    assert arguments["tag"] == "driver"
    (toy,) = arguments["variants"]
    assert toy["case"] == "toy"
    assert [member["name"] for member in by_name[toy["type"]]["members"]] == ["speed"]
