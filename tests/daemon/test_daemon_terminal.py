"""The human monitor at a terminal: its editor key by key, and a person at a socket or a pty."""

from __future__ import annotations

import os
import re
import select
import socket
import time
from pathlib import Path

import pytest

from ratite.clients.qmp import Client, DaemonProcess
from ratite.daemon.hmp.editor import HISTORY, LINE, TAB, Editor

LEFT, RIGHT, ERASE = "\x1b[D", "\x1b[C", "\x1b[K"


def typed(editor: Editor, keys: str) -> list[tuple[str, str]]:
    """What there is to do after some keys; nothing completes."""
    editor.typed(keys.encode())
    found = []
    while (wish := editor.take()) is not None:
        found.append(wish)
        if wish[0] == TAB:
            editor.completed(0, [])
    return found


def line(keys: str) -> str:
    """The line that these keys write."""
    [(kind, text)] = typed(Editor("> "), keys + "\r")
    assert kind == LINE
    return text


@pytest.mark.parametrize(
    ("keys", "text"),
    [
        ("info status", "info status"),
        ("ab\x08\x7fcd", "cd"),
        ("bc\x01a\x05d", "abcd"),
        ("ac\x1b[Db\x1b[Cd", "abcd"),
        ("ac\x02b\x06d", "abcd"),
        ("abc\x1b[H\x1b[3~", "bc"),
        ("abc\x1bOH\x04\x1bOFx", "bcx"),
        ("abc\x1b[1~\x1b[4~d", "abcd"),
        ("abc\x02\x0bX", "abX"),
        ("abc\x02\x15X", "Xc"),
        ("one two  \x17X", "one X"),
        ("one\x17\x17X", "X"),
        ("\x08\x02\x06\x10\x0ea", "a"),
        ("lost\x03kept", "kept"),
        ("a\x00\x1b[99zb", "ab"),
        ("g\xfcn\x02\x7fu", "gun"),
        ("a\x1b[" + "9" * 12 + "b", "a[" + "9" * 12 + "b"),
    ],
)
def test_keys(keys: str, text: str) -> None:
    assert line(keys) == text


def test_characters_and_sequences_may_come_in_pieces() -> None:
    editor = Editor("")
    for byte in "\xfc\x1b[Dx\r".encode():
        editor.typed(bytes([byte]))
        wish = editor.take()
    assert wish == (LINE, "x\xfc")


def test_history() -> None:
    editor = Editor("")
    assert typed(editor, "one\rone\rtwo\r\r")[-1] == (LINE, "")
    assert editor.history == ["one", "two"]
    assert typed(editor, "\x10\r") == [(LINE, "two")]
    assert typed(editor, "\x10\x10\x10\x10!\r") == [(LINE, "one!")]
    assert typed(editor, "new\x1b[A\x1b[B\r") == [(LINE, "new")]
    typed(editor, "".join(f"{number}\r" for number in range(100)))
    assert len(editor.history) == HISTORY


def shown(editor: Editor) -> str:
    return editor.output().decode()


def screen(text: str) -> tuple[str, int]:
    """The row that a terminal shows after `text`, which begins no other, and where its cursor stands."""
    row, at = "", 0
    for what in re.findall(r"\x1b\[[CDK]|.", text):
        if what == ERASE:
            row = row[:at]
        elif what in (LEFT, RIGHT):
            at += 1 if what == RIGHT else -1
        else:
            row, at = row[:at] + what + row[at + 1 :], at + 1
    return row, at


@pytest.mark.parametrize("more", ["", "\x01", "\x01y\x05", "\x08" * 90, "\x01\x05" * 500, "\x02" * 7, "\x02\x0b", "\0"])
def test_a_paste_is_drawn_once(more: str) -> None:
    """Not for each of its characters: the text would be thousands of times as long, and the loop busy with it."""
    together, single = Editor(""), Editor("")
    keys = "0123456789" * 50 + more
    typed(together, keys)
    for key in keys:
        typed(single, key)
    drawn = shown(together)
    assert len(drawn) < 6 * len(keys)
    assert screen(drawn) == screen(shown(single))


def test_what_is_drawn_is_what_qemus_monitor_draws() -> None:
    editor = Editor("(qemu) ")
    typed(editor, "inf")
    assert shown(editor) == f"i{ERASE}{LEFT}in{ERASE}{LEFT * 2}inf{ERASE}"
    typed(editor, "\x1b[D\x02X")
    assert shown(editor) == f"{LEFT * 2}{LEFT}iXnf{ERASE}{LEFT * 2}"
    typed(editor, "\x01\x05")
    assert shown(editor) == LEFT * 2 + RIGHT * 4
    typed(editor, "\x0c")
    assert shown(editor) == f"\x1b[2J\x1b[1;1H(qemu) iXnf{ERASE}"
    typed(editor, "\r")
    assert shown(editor) == "\r\n"


def test_completion() -> None:
    editor = Editor("(qemu) ")
    editor.typed(b"info sta\tx\r")
    assert editor.take() == (TAB, "info sta")
    shown(editor)
    editor.completed(5, ["stats", "status"])
    assert shown(editor) == f"\r\nstats     status    \r\n(qemu) info stat{ERASE}"
    assert editor.take() == (LINE, "info statx")
    editor.typed(b"info m\x01\x05\t\r")
    assert editor.take() == (TAB, "info m")
    editor.completed(5, ["mtree"])
    assert editor.take() == (LINE, "info mtree ")


# ---------------------------------------------------------------- at a terminal


class Person:
    """Someone who types and reads."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def reads(self, until: str) -> str:
        """What is shown up to and with `until`."""
        text, end = b"", time.monotonic() + 60
        while not text.endswith(until.encode()):
            assert select.select([self._fd], [], [], end - time.monotonic())[0], text
            data = os.read(self._fd, 1)
            assert data, text
            text += data
        return text.decode()

    def types(self, keys: str) -> None:
        os.write(self._fd, keys.encode())

    def asks(self, command: str) -> str:
        """What a command prints."""
        self.types(command + "\r")
        self.reads(f"{command}{ERASE}\r\n")
        return self.reads("(qemu) ")[: -len("(qemu) ")]


def add_terminal(qmp: Client, name: str, place: Path) -> None:
    backend = {"type": "socket", "data": {"addr": {"type": "unix", "data": {"path": str(place)}}, "wait": False}}
    qmp.execute("chardev-add", id=name, backend=backend)
    qmp.execute("monitor-add", chardev=name, mode="readline")


def test_a_person_at_a_socket(daemon: DaemonProcess, tmp_path: Path) -> None:
    with daemon.client() as qmp, socket.socket(socket.AF_UNIX) as sock:
        add_terminal(qmp, "mon", tmp_path / "mon")
        sock.connect(str(tmp_path / "mon"))
        person = Person(sock.fileno())
        assert person.reads("(qemu) ").endswith(" monitor - type 'help' for more information\r\n(qemu) ")
        assert person.asks("info status") == "VM status: paused (prelaunch)\r\n"
        assert person.asks("nope") == "unknown command: 'nope'\r\n"
        qmp.execute("machine-create")
        qmp.execute("device_add", driver="ns16550", id="uart0")
        assert "VM status" in person.asks("info status")
        person.types("device_del ua\t")
        person.reads(f"device_del uart0 {ERASE}")
        person.types("\r")
        person.reads("(qemu) ")
        assert "uart0" not in {row["name"] for row in qmp.execute("qom-list", path="/machine/peripheral")}
        person.types("info sta\t")
        person.reads(f"status {ERASE}")
        person.types("\x15")
        person.reads(ERASE)
        assert "0: 'info status'\r\n1: 'nope'\r\n" in person.asks("info history")
        # Many lines at once are done one after the other.
        person.types("info name\rinfo phase\rinfo uuid\r")
        said = [person.reads("(qemu) ").split(ERASE)[-1] for _ in range(3)]
        assert said[1].startswith("\r\nmachine phase")


def test_a_terminal_is_one_persons_and_waits_for_the_next(daemon: DaemonProcess, tmp_path: Path) -> None:
    place = tmp_path / "mon"
    with daemon.client() as qmp:
        add_terminal(qmp, "mon", place)
        with socket.socket(socket.AF_UNIX) as first, socket.socket(socket.AF_UNIX) as second:
            first.connect(str(place))
            Person(first.fileno()).reads("(qemu) ")
            second.connect(str(place))
            Person(first.fileno()).asks("info version")
            assert not select.select([second], [], [], 0)[0]
            first.close()
            Person(second.fileno()).reads("(qemu) ")
            Person(second.fileno()).types("quit\r")
            Person(second.fileno()).reads(f"quit{ERASE}\r\n")
            assert second.recv(1) == b""
        assert qmp.wait_event("SHUTDOWN")["data"] == {"guest": False, "reason": "host-qmp-quit"}
    assert daemon.process.wait(60) == 0


def test_a_person_at_a_pty(daemon: DaemonProcess) -> None:
    with daemon.client() as qmp:
        slave = qmp.execute("chardev-add", id="mon", backend={"type": "pty", "data": {}})["pty"]
        qmp.execute("monitor-add", chardev="mon", mode="readline")
        fd = os.open(slave, os.O_RDWR | os.O_NOCTTY)
        try:
            person = Person(fd)
            person.reads("(qemu) ")
            qmp.execute("machine-create")
            assert person.asks("info phase") == "machine phase: created\r\n"
        finally:
            os.close(fd)


def test_a_terminal_shared_with_a_guests_console(daemon: DaemonProcess, tmp_path: Path) -> None:
    with daemon.client() as qmp, socket.socket(socket.AF_UNIX) as sock:
        address = {"type": "unix", "data": {"path": str(tmp_path / "tty")}}
        qmp.execute("chardev-add", id="tty", backend={"type": "socket", "data": {"addr": address, "wait": False}})
        qmp.execute("chardev-add", id="mux", backend={"type": "mux", "data": {"chardev": "tty"}})
        qmp.execute("monitor-add", chardev="mux", mode="readline")
        qmp.execute("machine-create")
        qmp.execute("device_add", driver="ns16550", id="uart0", chardev="mux")
        qmp.execute("x-exit-preconfig")
        sock.connect(str(tmp_path / "tty"))
        person = Person(sock.fileno())
        # The console has the focus; what is typed there is no command.
        person.types("\x01h")
        assert "switch between console and monitor" in person.reads("sends C-a\n\r")
        person.types("quit\r\x01c")
        assert person.reads("(qemu) ").endswith(" monitor - type 'help' for more information\r\n(qemu) ")
        assert person.asks("info name") == ""
        person.types("half a comm")
        person.reads(f"half a comm{ERASE}")
        person.types("\x01c")
        person.reads("\r\n")
        person.types("\x01c")
        person.reads("(qemu) ")
        assert person.asks("info status") == "VM status: running\r\n"
        person.types("\x01x")
        person.reads("Terminated\n\r")
        assert daemon.process.wait(60) == 0
