"""Chardevs shared by several frontends, logged, and changed for others."""

from __future__ import annotations

import queue
import re
import socket
import threading

import pytest
from backends_kit import TIMEOUT, Front, chardev_set, client, unix

from ratite.core.backends.chardev import BUFFER
from ratite.core.backends.io import IoThread
from ratite.core.backends.mux import FRONTENDS_MAX, PENDING
from ratite.core.backends.set import ChardevSet
from ratite.qapi.errors import GenericError


@pytest.fixture
def chardevs():
    with chardev_set() as made:
        yield made


@pytest.fixture
def terminal(chardevs, tmp_path):
    """A connected peer of the mux `m`."""
    chardevs.add("base", "socket", unix(tmp_path / "s"))
    chardevs.add("m", "mux", {"chardev": "base"})
    with client(tmp_path / "s") as peer:
        assert chardevs.find("base").wait_connected(TIMEOUT)
        yield peer


def attach(chardevs: ChardevSet, id: str, room: int = 1 << 20) -> Front:
    front = Front(room)
    with chardevs.lock:
        chardevs.find(id).attach(front)
    return front


def read(peer: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        more = peer.recv(size - len(data))
        assert more
        data += more
    return data


def test_input_goes_to_the_focus_and_output_comes_from_all(chardevs, terminal) -> None:
    first, second = attach(chardevs, "m"), attach(chardevs, "m")
    first.until("focus-out")
    second.until("focus-in")
    terminal.sendall(b"to the newest\x01c")
    second.expect(b"to the newest")
    second.expect("focus-out")
    first.expect("focus-in")
    terminal.sendall(b"\x01\x01x")
    first.expect(b"\x01x")
    with chardevs.lock:
        assert first.line.write(b"one ") == 4 and second.line.write(b"two") == 3
    assert read(terminal, 7) == b"one two"
    with chardevs.lock:
        first.line.detach()
    second.expect("focus-in")
    terminal.sendall(b"\x01")
    terminal.sendall(b"c\x01qstill here")
    second.expect(b"still here")


def test_commands_of_the_terminal(chardevs, terminal) -> None:
    ended: queue.Queue[str] = queue.Queue()
    chardevs.quit = lambda: ended.put("quit")
    front = attach(chardevs, "m")
    terminal.sendall(b"\x01b")
    front.until("break")
    terminal.sendall(b"\x01h")
    help_text = b""
    while b"sends C-a\n\r" not in help_text:
        help_text += terminal.recv(4096)
    assert b"\n\rC-a c    switch between console and monitor\n\r" in help_text
    terminal.sendall(b"\x01x")
    assert ended.get(timeout=TIMEOUT) == "quit"
    assert read(terminal, 20) == b"ratite: Terminated\n\r"


def test_timestamps(chardevs, terminal) -> None:
    front = attach(chardevs, "m")
    terminal.sendall(b"\x01tgo")
    front.until(b"go")
    with chardevs.lock:
        assert front.line.write(b"rest\nwhole\nbegun") == 16
        assert front.line.write(b" ended\n") == 7
    data = b""
    while not data.endswith(b"ended\n"):
        data += terminal.recv(4096)
    stamp = rb"\[\d\d:\d\d:\d\d\.\d{3}\] "
    assert re.fullmatch(rb"rest\n" + stamp + rb"whole\n" + stamp + rb"begun ended\n", data), data


def test_a_frontend_without_room_can_be_left(chardevs, terminal) -> None:
    calm, stuck = attach(chardevs, "m"), attach(chardevs, "m", room=0)
    terminal.sendall(b"x" * (PENDING - 10) + b"\x01c" + b"heard")
    calm.until(b"heard")
    stuck.room = PENDING
    with chardevs.lock:
        stuck.line.accept_input()
    assert stuck.data == b"x" * (PENDING - 10)


def test_a_terminal_that_does_not_read_stalls_all_frontends(chardevs, terminal) -> None:
    first, second = attach(chardevs, "m"), attach(chardevs, "m")
    sent, stalled = 0, False
    while not stalled:
        with chardevs.lock:
            taken = first.line.write(bytes(4096))
        sent += taken
        if not taken and chardevs.io.sync() and chardevs.io.sync():  # the second one has seen that there is something to send
            with chardevs.lock:
                taken = first.line.write(b"x")
            sent, stalled = sent + taken, not taken
    with chardevs.lock:
        assert second.line.write(b"y") == 0
    assert len(read(terminal, sent)) == sent > BUFFER
    first.until("writable")
    second.until("writable")


def test_a_frontend_elsewhere_shares_the_line(chardevs, terminal) -> None:
    """A monitor lives on a loop, under a lock of its own; who holds the machine's lock doesn't hold it up."""
    elsewhere, lock = IoThread("elsewhere"), threading.RLock()
    device, monitor = attach(chardevs, "m"), Front(room=3)
    device.until("focus-in")
    assert chardevs.find("m").attach_at(elsewhere, lock, monitor).wait(60)
    terminal.sendall(b"to the device\x01c")
    device.expect(b"to the device")
    device.expect("focus-out")
    monitor.until("focus-in")
    terminal.sendall(b"abcde")
    monitor.expect(b"abc")
    monitor.expect(b"de")
    with chardevs.lock, lock:
        assert monitor.line.write(bytes(BUFFER)) == BUFFER
        assert monitor.line.write(b"more") == 0
        monitor.line.set_open(False)
    assert read(terminal, BUFFER) == bytes(BUFFER)
    monitor.expect("writable")
    with lock:
        monitor.line.detach()
    device.expect("focus-in")
    terminal.sendall(b"x")
    device.expect(b"x")
    assert monitor.said.empty()
    elsewhere.stop()


def test_a_line_that_is_held_is_read_when_everybody_is_here(chardevs, terminal) -> None:
    elsewhere, mux = IoThread("elsewhere"), chardevs.find("m")
    mux.hold()
    terminal.sendall(b"\x01cearly")
    device, monitor = attach(chardevs, "m"), Front()
    assert mux.attach_at(elsewhere, threading.RLock(), monitor).wait(60)
    mux.release()
    monitor.until("focus-in")
    monitor.expect(b"early")
    device.until("focus-out")
    elsewhere.stop()


def test_refusals(chardevs, terminal) -> None:
    for options, words in (
        ({"chardev": "nope"}, "mux: base chardev nope not found"),
        ({"chardev": "base"}, "chardev 'base' is already in use"),
        ({}, "Parameter 'chardev' is missing"),
    ):
        with pytest.raises(GenericError, match=words):
            chardevs.add("m2", "mux", options)
    with pytest.raises(GenericError, match="Chardev 'base' is busy"):
        chardevs.remove("base")
    fronts = [attach(chardevs, "m") for _ in range(FRONTENDS_MAX)]
    with pytest.raises(GenericError, match=r"too many uses of multiplexed chardev 'm' \(maximum is 4\)"):
        attach(chardevs, "m")
    with pytest.raises(GenericError, match="Chardev 'm' is busy"):
        chardevs.remove("m")
    assert [row["frontend-open"] for row in chardevs.list()] == [True, True]
    for front in fronts:
        with chardevs.lock:
            front.line.detach()
    assert [row["frontend-open"] for row in chardevs.list()] == [False, False]
    chardevs.remove("m")
    chardevs.remove("base")


def test_logs(chardevs, tmp_path) -> None:
    log = tmp_path / "log"
    log.write_bytes(b"before ")
    chardevs.add("n", "null", {"logfile": str(log), "logappend": True})
    front = attach(chardevs, "n")
    with chardevs.lock:
        assert front.line.write(b"kept") == 4
        front.line.detach()
    chardevs.remove("n")
    assert chardevs.io.sync()
    assert log.read_bytes() == b"before kept"
    chardevs.add("n", "ringbuf", {"logfile": str(log)})
    with pytest.raises(GenericError, match="Could not create '/nonexistent/x': No such file"):
        chardevs.add("o", "file", {"out": str(tmp_path / "o"), "logfile": "/nonexistent/x"})
    assert not (tmp_path / "o").exists()
    chardevs.close()
    assert log.read_bytes() == b""


def test_a_chardev_is_changed_under_its_frontend(chardevs, tmp_path) -> None:
    class Changeable(Front):
        def chr_changed(self, chardev: object) -> None:
            self.said.put("changed")

    front = Changeable()
    chardevs.add("a", "socket", unix(tmp_path / "one"))
    with chardevs.lock:
        chardevs.find("a").attach(front)
    with client(tmp_path / "one") as peer:
        front.expect("opened")
        with pytest.raises(GenericError, match="must be power of two"):
            chardevs.change("a", "ringbuf", {"size": 3})
        assert chardevs.change("a", "socket", unix(tmp_path / "two")) == {}
        front.expect("changed")
        front.expect("closed")
        assert peer.recv(1) == b""
    assert not (tmp_path / "one").exists()
    with client(tmp_path / "two") as peer:
        front.expect("opened")
        with chardevs.lock:
            front.line.write(b"new")
        assert read(peer, 3) == b"new"
    with pytest.raises(GenericError, match="Chardev 'zz' does not exist"):
        chardevs.change("zz", "null", {})
    chardevs.add("plain", "null")
    attach(chardevs, "plain")
    with pytest.raises(GenericError, match="Chardev user does not support chardev hotswap"):
        chardevs.change("plain", "null", {})
    chardevs.add("b", "null")
    chardevs.add("m", "mux", {"chardev": "b"})
    with pytest.raises(GenericError, match="For mux or hub device hotswap is not supported yet"):
        chardevs.change("m", "null", {})
