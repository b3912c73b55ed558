"""Chardevs over real descriptors: what comes, what goes, and peers that vanish or don't read."""

from __future__ import annotations

import os
import socket
import sys
import threading

import pytest
from backends_kit import TIMEOUT, Front, chardev_set, client, unix

from ratite.core.backends.chardev import BUFFER
from ratite.qapi.errors import GenericError


@pytest.fixture
def chardevs():
    with chardev_set() as made:
        yield made


@pytest.fixture
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("c")


def test_unix_server(chardevs, place) -> None:
    path = place / "s"
    assert chardevs.add("c0", "socket", unix(path)) == {}
    assert path.stat().st_mode & 0o777 == 0o600
    assert chardevs.list() == [
        {"label": "c0", "filename": f"disconnected:unix:{path},server=on", "frontend-open": False}
    ]
    chardev, front = chardevs.find("c0"), Front()
    with chardevs.lock:
        chardev.attach(front)
        assert chardev.write(b"nobody hears this") == 17
    with client(path) as peer:
        front.expect("opened")
        assert chardevs.list()[0] == {"label": "c0", "filename": f"unix:{path},server=on", "frontend-open": True}
        peer.sendall(b"hello")
        front.expect(b"hello")
        assert chardev.write(b"world") == 5
        assert peer.recv(100) == b"world"
        peer.sendall(b"last words")
    front.expect(b"last words")
    front.expect("closed")
    with client(path):
        front.expect("opened")
    with pytest.raises(GenericError, match="Chardev 'c0' is busy"):
        chardevs.remove("c0")
    with chardevs.lock:
        chardev.detach()
    chardevs.remove("c0")
    assert not path.exists()
    with pytest.raises(GenericError, match="Chardev 'c0' not found"):
        chardevs.remove("c0")


def test_input_waits_for_room_and_survives_its_sender(chardevs, place) -> None:
    chardevs.add("c0", "socket", unix(place / "s"))
    chardev, front = chardevs.find("c0"), Front(room=0)
    with chardevs.lock:
        chardev.attach(front)
    with client(place / "s") as peer:
        front.expect("opened")
        peer.sendall(b"0123456789")
    front.expect("closed")
    assert front.data == b""
    with client(place / "s"):
        front.expect("opened")
        front.room = 4
        with chardevs.lock:
            chardev.accept_input()
        assert front.data == b"0123456789"


def test_a_peer_that_does_not_read_stalls_only_its_line(chardevs, place) -> None:
    chardevs.add("c0", "socket", unix(place / "s"))
    chardevs.add("c1", "socket", unix(place / "t"))
    stuck, other, front, front1 = chardevs.find("c0"), chardevs.find("c1"), Front(), Front()
    with chardevs.lock:
        stuck.attach(front)
        other.attach(front1)
    with client(place / "s") as peer, client(place / "t") as peer1:
        front.expect("opened")
        front1.expect("opened")
        sent = 0
        while True:
            taken = stuck.write(bytes(4096))
            sent += taken
            if not taken and chardevs.io.sync() and not stuck.write(b"x"):
                break
        assert len(stuck._out) == BUFFER
        other.write(b"on")
        assert peer1.recv(10) == b"on"
        got = 0
        while got < sent:
            got += len(peer.recv(65536))
        front.until("writable")
    front.until("closed")
    assert stuck.write(bytes(BUFFER * 2)) == BUFFER * 2


def test_a_vanished_peer_frees_a_blocked_writer(chardevs, place) -> None:
    chardevs.add("c0", "socket", unix(place / "s"))
    chardev, front = chardevs.find("c0"), Front()
    with chardevs.lock:
        chardev.attach(front)
    with client(place / "s"):
        front.expect("opened")
        while chardev.write(bytes(65536)) or not (chardevs.io.sync() and not chardev.write(b"x")):
            pass
    heard: set[str | bytes] = set()
    while heard != {"closed", "writable"}:  # in either order
        heard.add(front.said.get(timeout=TIMEOUT))


def test_tcp_with_a_port_of_the_hosts_choice(chardevs) -> None:
    addr = {"type": "inet", "data": {"host": "127.0.0.1", "port": "0"}}
    chardevs.add("c0", "socket", {"addr": addr, "nodelay": True})
    server = chardevs.find("c0")
    host, port = server.actual_address.split(":")
    assert int(port) > 0
    assert server.filename == f"disconnected:tcp:127.0.0.1:{port},server=on"
    chardevs.add("c1", "socket", {"addr": {"type": "inet", "host": host, "port": port}, "server": False})
    assert server.wait_connected(TIMEOUT)
    front = Front()
    with chardevs.lock:
        server.attach(front)
    front.expect("opened")
    chardevs.find("c1").write(b"ping")
    front.expect(b"ping")
    assert server.filename.startswith(f"tcp:127.0.0.1:{port},server=on <-> 127.0.0.1:")


def test_passed_descriptors(chardevs) -> None:
    ours, theirs = socket.socketpair()
    listener = socket.create_server(("127.0.0.1", 0))
    names = {"con": theirs.detach(), "lis": os.dup(listener.fileno())}
    for n, name in enumerate(names):
        addr = {"type": "fd", "data": {"str": name}}
        chardevs.add(f"c{n}", "socket", {"addr": addr, "server": name == "lis"}, names.__getitem__)
    front, front1 = Front(), Front()
    with chardevs.lock:
        chardevs.find("c0").attach(front)
        chardevs.find("c1").attach(front1)
    front.expect("opened")
    with ours:
        ours.sendall(b"hi")
        front.expect(b"hi")
    with listener, socket.create_connection(listener.getsockname()) as peer:
        front1.expect("opened")
        peer.sendall(b"ho")
        front1.expect(b"ho")
    with pytest.raises(GenericError, match="File descriptor named 'x' has not been found"):
        chardevs.add("c9", "socket", {"addr": {"type": "fd", "str": "x"}})
    with pytest.raises(GenericError, match="is not a socket"):
        chardevs.add("c9", "socket", {"addr": {"type": "fd", "str": "0"}})


def test_existing_paths(chardevs, place) -> None:
    path = place / "s"
    with socket.socket(socket.AF_UNIX) as live:
        live.bind(str(path))
        live.listen()
        with pytest.raises(GenericError, match="Address already in use"):
            chardevs.add("c0", "socket", unix(path))
    chardevs.add("c0", "socket", unix(path))  # dead now
    path.unlink()
    path.write_text("somebody else's")
    chardevs.remove("c0")
    assert path.read_text() == "somebody else's"
    with pytest.raises(GenericError, match="Address already in use"):
        chardevs.add("c0", "socket", unix(path))
    with pytest.raises(GenericError, match="is too long"):
        chardevs.add("c0", "socket", unix(place / ("x" * 108)))
    with pytest.raises(GenericError, match=r"Failed to connect to .*: No such file"):
        chardevs.add("c0", "socket", unix(place / "no", server=False))


def test_pty(chardevs) -> None:
    path = chardevs.add("c0", "pty")["pty"]
    chardev, front = chardevs.find("c0"), Front()
    chardev.look_after = 0.005
    assert chardev.filename == f"pty:{path}"
    with chardevs.lock:
        chardev.attach(front)
    chardevs.io.sync()
    for _ in range(2):
        slave = os.open(path, os.O_RDWR | os.O_NOCTTY)
        front.expect("opened")
        os.write(slave, b"in\r")
        front.expect(b"in\r")
        chardev.write(b"out\n")
        assert os.read(slave, 10) == b"out\n"
        os.close(slave)
        front.expect("closed")
    assert chardev.write(bytes(BUFFER * 2)) == BUFFER * 2


def test_who_opens_a_pty_misses_nothing(chardevs) -> None:
    path = chardevs.add("c0", "pty")["pty"]
    chardev, front = chardevs.find("c0"), Front()
    chardev.look_after = 3600.0
    with chardevs.lock:
        chardev.attach(front)
        assert chardev.write(b"to nobody") == 9
    slave = os.open(path, os.O_RDWR | os.O_NOCTTY)
    with chardevs.lock:
        assert chardev.write(b"first ") == 6
        assert chardev.write(b"words") == 5
    front.expect("opened")
    said = b""
    while len(said) < 11:
        said += os.read(slave, 100)
    assert said == b"first words"
    os.close(slave)
    front.expect("closed")


def test_file(chardevs, place) -> None:
    path = place / "log"
    for append in (False, True, True):
        chardevs.add("c0", "file", {"out": str(path), "append": append})
        assert chardevs.list()[0]["filename"] == "file"
        chardevs.find("c0").write(b"line\n")
        chardevs.remove("c0")
    chardevs.io.sync()
    assert path.read_bytes() == b"line\n" * 3
    with pytest.raises(GenericError, match=r"Could not open '.*': No such file or directory"):
        chardevs.add("c0", "file", {"out": str(place / "no" / "log")})
    with pytest.raises(GenericError, match="Could not open '/nonexistent/in': No such file"):
        chardevs.add("c0", "file", {"out": str(path), "in": "/nonexistent/in"})
    (place / "in").write_bytes(b"from a file")
    chardevs.add("c0", "file", {"out": str(path), "in": str(place / "in")})
    front = Front()
    with chardevs.lock:
        chardevs.find("c0").attach(front)
    front.until(b"from a file")


def test_stdio(chardevs, monkeypatch) -> None:
    from ratite.core.backends import file as file_module

    (in_r, in_w), (out_r, out_w) = os.pipe(), os.pipe()
    real = file_module.StdioChardev.__init__

    def with_pipes(self, *args) -> None:
        real(self, *args)
        self.fds = (in_r, out_w)

    monkeypatch.setattr(file_module.StdioChardev, "__init__", with_pipes)
    chardevs.add("c0", "stdio", {"signal": False})
    front = Front()
    with chardevs.lock:
        chardevs.find("c0").attach(front)
    front.expect("opened")
    os.write(in_w, b"typed")
    front.expect(b"typed")
    os.close(in_w)
    chardevs.find("c0").write(b"shown")
    assert os.read(out_r, 10) == b"shown"
    with pytest.raises(GenericError, match="cannot use stdio by multiple character devices"):
        chardevs.add("c1", "stdio")
    for fd in (in_r, out_r, out_w):
        os.close(fd)


def test_ringbuf(chardevs) -> None:
    chardevs.add("r0", "ringbuf", {"size": 8})
    chardevs.find("r0").write(b"0123456789")
    assert chardevs.ringbuf_read("r0", 3) == b"234"
    chardevs.ringbuf_write("r0", b"ab")
    assert chardevs.ringbuf_read("r0", 100) == b"56789ab"
    assert not chardevs.io.running
    for size in (0, -8, 12):
        with pytest.raises(GenericError, match="size of ringbuf chardev must be power of two"):
            chardevs.add("r1", "ringbuf", {"size": size})
    with pytest.raises(GenericError, match="at most"):
        chardevs.add("r1", "ringbuf", {"size": 1 << 40})
    chardevs.add("n0", "null")
    assert chardevs.find("n0").write(b"x") == 1
    with pytest.raises(GenericError, match="n0 is not a ringbuf device"):
        chardevs.ringbuf_read("n0", 1)
    with pytest.raises(GenericError, match="Device 'zz' not found"):
        chardevs.ringbuf_write("zz", b"")


def test_ids_kinds_and_breaks(chardevs) -> None:
    chardevs.add("n0", "null")
    with pytest.raises(GenericError, match="Chardev with id 'n0' already exists"):
        chardevs.add("n0", "null")
    with pytest.raises(GenericError, match="Parameter 'id' expects an identifier"):
        chardevs.add("0 no", "null")
    with pytest.raises(GenericError, match="Parameter 'id' expects an identifier"):
        chardevs.add("n" * 128, "null")
    chardevs.add("n" * 127, "null")
    chardevs.remove("n" * 127)
    with pytest.raises(GenericError, match="'spicevmc' is not a valid char driver"):
        chardevs.add("n1", "spicevmc")
    with pytest.raises(GenericError, match="Invalid parameter type for 'server', expected: boolean"):
        chardevs.add("n1", "socket", {"addr": {"type": "unix", "path": "x"}, "server": 1})
    front = Front()
    with chardevs.lock:
        chardevs.find("n0").attach(front)
        with pytest.raises(GenericError, match="chardev 'n0' is already in use"):
            chardevs.find("n0").attach(front)
    front.expect("opened")
    chardevs.send_break("n0")
    front.expect("break")
    assert chardevs.find("n0").path == "/chardevs/n0"


def test_hosts_without_terminals_or_unix_sockets(chardevs, place, monkeypatch) -> None:
    chardevs.io.call(lambda: None)  # its own socket pair is the host's business
    for name in ("tty", "termios", "pty", "fcntl"):
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.delattr(socket, "AF_UNIX")
    with pytest.raises(GenericError, match="chardev 'pty' can't be used on this host"):
        chardevs.add("c0", "pty")
    with pytest.raises(GenericError, match="UNIX sockets need a POSIX host"):
        chardevs.add("c0", "socket", unix(place / "s"))
    addr = {"type": "inet", "data": {"host": "127.0.0.1", "port": "0"}}
    chardevs.add("c0", "socket", {"addr": addr})
    assert chardevs.find("c0").actual_address.startswith("127.0.0.1:")


def test_io_thread_outlives_a_broken_handler() -> None:
    from ratite.core.backends.io import READ, IoThread

    class Broken:
        def __init__(self, fd: int) -> None:
            self.fd = fd

        def interests(self) -> dict[int, int]:
            return {self.fd: READ}

        def ready(self, fd: int, events: int) -> None:
            raise ZeroDivisionError

        def poll_after(self) -> None:
            return None

        def poll(self) -> None:
            pass

    thread, (r, w) = IoThread(), os.pipe()
    os.write(w, b"!")
    thread.add(Broken(r))
    thread.call(lambda: 1 // 0)
    assert thread.sync()
    assert thread.sync()
    thread.stop()
    assert not thread.running
    assert thread.sync()
    # Who comes late, as one that was connecting elsewhere meanwhile, is served at once and starts nothing.
    called: list[int] = []
    thread.call(lambda: called.append(threading.get_ident()))
    thread.call(lambda: 1 // 0)
    assert called == [threading.get_ident()] and not thread.running
    os.close(r)
    os.close(w)


def unix_address(path: object) -> dict[str, object]:
    return {"type": "unix", "data": {"path": str(path)}}


def test_wait_is_for_servers(chardevs, place):
    with pytest.raises(GenericError, match="'wait' option is incompatible with socket in client connect mode"):
        chardevs.add("s", "socket", {"addr": unix_address(place / "s"), "server": False, "wait": True})
    with pytest.raises(GenericError, match="Invalid parameter type for 'wait', expected: boolean"):
        chardevs.add("s", "socket", {"addr": unix_address(place / "s"), "wait": "off"})
    chardevs.add("s", "socket", {"addr": unix_address(place / "s"), "server": True, "wait": False})


@pytest.mark.parametrize("server", [False, True])
@pytest.mark.parametrize("bad", ["a\0b", "a\ud800b"])
def test_text_that_the_host_cannot_take(chardevs, bad, server):
    def refused(kind: str, options: dict[str, object]) -> str:
        with pytest.raises(GenericError) as told:
            chardevs.add("x", kind, options)
        assert not chardevs.children
        return told.value.desc

    assert "Invalid parameter 'path'" in refused("socket", {"addr": unix_address(bad), "server": server})
    inet = {"type": "inet", "data": {"host": bad, "port": "0"}}
    assert "Invalid parameter 'host'" in refused("socket", {"addr": inet, "server": server})
    long = {"type": "inet", "data": {"host": "ä" * 300, "port": "0"}}
    assert "ä:0" in refused("socket", {"addr": long, "server": server})
    assert "Invalid parameter 'out'" in refused("file", {"out": bad})


class Loop:
    """An Io that does what it is asked only when told to."""

    def __init__(self) -> None:
        self.calls: list = []

    def call(self, function) -> None:
        self.calls.append(function)

    def run(self) -> None:
        while self.calls:
            self.calls.pop(0)()


def test_a_frontend_that_lives_elsewhere_has_the_line_at_once_and_is_told_there(chardevs):
    loop, front = Loop(), Front()
    chardevs.add("n", "null", {})
    chardevs.find("n").attach_at(loop, threading.RLock(), front)
    (row,) = chardevs.list()
    assert row["frontend-open"]
    with pytest.raises(GenericError, match="in use"):
        chardevs.find("n").attach(Front())
    assert front.said.empty()
    loop.run()
    front.expect("opened")
