"""The chardevs of a machine: `/chardevs/ID`, made and removed by chardev-add and chardev-remove."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Mapping
from importlib import import_module
from types import MappingProxyType
from typing import Any, ClassVar

from ratite.core.backends.chardev import CLOSED, Chardev, bool_option, str_option
from ratite.core.backends.io import IoThread
from ratite.core.hostfiles import FREE, HostFiles
from ratite.core.objects.obj import Obj
from ratite.qapi.errors import GenericError

KINDS: Mapping[str, str] = MappingProxyType(
    {
        "console": "ratite.core.backends.console:ConsoleChardev",
        "file": "ratite.core.backends.file:FileChardev",
        "memory": "ratite.core.backends.ringbuf:RingbufChardev",
        "mux": "ratite.core.backends.mux:MuxChardev",
        "null": "ratite.core.backends.chardev:NullChardev",
        "pipe": "ratite.core.backends.hostdev:PipeChardev",
        "pty": "ratite.core.backends.pty:PtyChardev",
        "ringbuf": "ratite.core.backends.ringbuf:RingbufChardev",
        "serial": "ratite.core.backends.hostdev:SerialChardev",
        "socket": "ratite.core.backends.socket:SocketChardev",
        "stdio": "ratite.core.backends.file:StdioChardev",
        "udp": "ratite.core.backends.udp:UdpChardev",
    }
)

# As Assembly's check_id.
_ID = re.compile(r"[A-Za-z][A-Za-z0-9._-]{0,126}")


class ChardevSet(Obj):
    """Holds the chardevs as its children; `lock` is the machine's, under which frontends are called."""

    TYPE: ClassVar[str] = "chardev-set"

    def __init__(self, lock: threading.RLock | None = None, id: str = "chardevs", files: HostFiles = FREE) -> None:
        super().__init__(id)
        self.files = files
        self.lock: Any = lock or threading.RLock()
        self.io = IoThread()
        # The character that begins a command to a mux, what it calls this program, and what its command to exit does.
        self.escape = 1
        self.program = "ratite"
        self.quit: Callable[[], None] = _nothing

    def add(
        self,
        id: str,
        kind: str,
        options: Mapping[str, Any] = MappingProxyType({}),
        fd_of: Callable[[str], int] | None = None,
    ) -> dict[str, str]:
        """Makes a chardev; `options` is the `data` member of QMP's ChardevBackend.

        `fd_of` turns the name of a descriptor that a client passed into its number, which then is the chardev's.
        The answer is chardev-add's: {"pty": path} for a pty, else empty.  GenericError when it can't be made.
        """
        if not _ID.fullmatch(id):
            raise GenericError("Parameter 'id' expects an identifier")
        if id in self.children:
            raise GenericError(f"Chardev with id '{id}' already exists")
        made = self._make(id, kind, options, fd_of)
        self.add_child(made)
        return _answer(made)

    def change(
        self, id: str, kind: str, options: Mapping[str, Any], fd_of: Callable[[str], int] | None = None
    ) -> dict[str, str]:
        """chardev-change: another chardev in the place of one; the frontend stays.  As `add`; on an error nothing changed."""
        self.check_change(id, kind)
        old = self.find(id)
        made = self._make(id, kind, options, fd_of)
        with old.lock:
            frontend, was_connected = old.frontend, old.connected
            old.detach()
            self.remove_child(old)
            self.add_child(made)
            if frontend is not None:
                frontend.chr_changed(made)  # type: ignore[attr-defined]  # check_change has asked
                if was_connected and not made.connected:
                    frontend.chr_event(CLOSED)
                made.attach(frontend)
        self._close(old)
        return _answer(made)

    def check_change(self, id: str, kind: str) -> None:
        """GenericError unless the chardev may be changed for one of this kind."""
        old = self.children.get(id)
        if not isinstance(old, Chardev):
            raise GenericError(f"Chardev '{id}' does not exist")
        if old.kind == "mux" or kind == "mux":
            raise GenericError("For mux or hub device hotswap is not supported yet")
        if old.frontend is not None and not hasattr(old.frontend, "chr_changed"):
            raise GenericError("Chardev user does not support chardev hotswap")

    def _make(
        self, id: str, kind: str, options: Mapping[str, Any], fd_of: Callable[[str], int] | None
    ) -> Chardev:
        if kind not in KINDS:
            raise GenericError(f"'{kind}' is not a valid char driver")
        module, _, name = KINDS[kind].partition(":")
        made: Chardev = getattr(import_module(module), name)(id, self, _with_fd(options, fd_of))
        made.options = {"type": kind, "data": dict(options)}
        if options.get("logfile") is not None:
            from ratite.core.backends.logfile import LogFile  # few need it

            path, append = str_option(options, "logfile"), bool_option(options, "logappend", False)
            made.log = LogFile(path, append, self.io, self.files)
        try:
            made.open()
        except BaseException:
            if made.log is not None:
                made.log.close()
            raise
        made.phase = "realized"
        return made

    def _close(self, gone: Chardev) -> None:
        gone.close()
        if gone.log is not None:
            gone.log.close()

    def find(self, id: str) -> Chardev:
        """The chardev; GenericError when there is none."""
        found = self.children.get(id)
        if not isinstance(found, Chardev):
            raise GenericError(f"Chardev '{id}' not found")
        return found

    def remove(self, id: str) -> None:
        """Takes a chardev away; refused while a device uses it."""
        found = self.find(id)
        with found.lock:
            if found.in_use:
                raise GenericError(f"Chardev '{id}' is busy")
            self.remove_child(found)
        self._close(found)

    def send_break(self, id: str) -> None:
        """A break on the line, as the device sees it."""
        found = self.find(id)
        with found.lock:
            found.send_break()

    def list(self) -> list[dict[str, str | bool]]:
        """query-chardev's answer, by label: label, filename, frontend-open."""
        found = sorted(self.children.items())
        return [
            {"label": id, "filename": child.filename, "frontend-open": child.frontend_open}
            for id, child in found
            if isinstance(child, Chardev)
        ]

    def attach_peer(self, id: str, fd: int) -> None:
        """chardev-attach: `fd` is the chardev's from now on.  GenericError, and it stays the caller's."""
        found = self.find(id)
        attach = getattr(found, "attach_peer", None)
        if attach is None:
            raise GenericError(f"Chardev '{id}' must be of kind 'console', not '{found.kind}'")
        attach(fd)

    def add_client(self, id: str, fd: int) -> bool:
        """add_client: whether the chardev takes the connection, which is its own from now on then."""
        add = getattr(self.find(id), "add_client", None)
        return add is not None and bool(add(fd))

    def ringbuf_read(self, id: str, size: int) -> bytes:
        """ringbuf-read's bytes; GenericError in QEMU's words."""
        if size <= 0:
            raise GenericError("size must be greater than zero")
        data: bytes = self._ringbuf(id).read(size)  # type: ignore[attr-defined]
        return data

    def ringbuf_write(self, id: str, data: bytes) -> None:
        """ringbuf-write."""
        self._ringbuf(id).put(data)

    def _ringbuf(self, id: str) -> Chardev:
        found = self.children.get(id)
        if not isinstance(found, Chardev):
            raise GenericError(f"Device '{id}' not found")
        if found.kind != "ringbuf":
            raise GenericError(f"{id} is not a ringbuf device")
        return found

    def close(self) -> None:
        """Closes every chardev and ends the IO thread.  Never under the machine's lock."""
        with self.lock:
            gone = [child for child in self.children.values() if isinstance(child, Chardev)]
            for chardev in gone:
                chardev.detach()
                self.remove_child(chardev)
        for chardev in gone:
            self._close(chardev)
        self.io.stop()


def _answer(made: Chardev) -> dict[str, str]:
    """ChardevReturn."""
    slave = getattr(made, "slave", "")
    return {"pty": slave} if slave else {}


def _nothing() -> None:
    pass


def _with_fd(options: Mapping[str, Any], fd_of: Callable[[str], int] | None) -> Mapping[str, Any]:
    """The options with the name of a passed descriptor replaced by its number."""
    addr = options.get("addr")
    if fd_of is None or not isinstance(addr, Mapping) or addr.get("type") != "fd":
        return options
    data = addr.get("data", addr)
    name = data.get("str") if isinstance(data, Mapping) else None
    if not isinstance(name, str):
        return options
    return {**options, "addr": {"type": "fd", "data": {"str": str(fd_of(name)), "name": name}}}
