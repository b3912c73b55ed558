"""The netdevs of a machine: `/netdevs/ID`, made and removed by netdev_add and netdev_del."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, cast

from ratite.core.backends.io import IoThread
from ratite.core.hostfiles import FREE, HostFiles
from ratite.core.objects.obj import Obj
from ratite.qapi.errors import DeviceNotFound, GenericError

if TYPE_CHECKING:
    from ratite.core.backends.net.netdev import Netdev

# As Assembly's check_id.
_ID = re.compile(r"[A-Za-z][A-Za-z0-9._-]{0,126}")

Emit = Callable[[str, dict[str, Any]], None]


class NetdevSet(Obj):
    """Holds the netdevs as its children; `emit` sends an event, `io` is the thread that their bytes go through."""

    TYPE: ClassVar[str] = "netdev-set"

    def __init__(self, lock: Any, io: IoThread, emit: Emit, id: str = "/netdevs", files: HostFiles = FREE) -> None:
        super().__init__(id)
        self.files = files
        self.lock = lock
        self.io = io
        self.emit = emit

    def add(self, id: str, kind: str, options: Mapping[str, Any]) -> Netdev:
        """netdev_add: `options` as Netdev of the schema, checked by it.  GenericError."""
        if not _ID.fullmatch(id):
            raise GenericError("Parameter 'id' expects an identifier")
        if id in self.children:
            raise GenericError(f"Duplicate ID '{id}'")
        made = self._make(id, kind, options)
        made.options = {"type": kind, **options}
        made.open()
        self.add_child(made)
        made.phase = "realized"
        return made

    def _make(self, id: str, kind: str, options: Mapping[str, Any]) -> Netdev:
        if kind == "user":
            from ratite.core.backends.net.user import UserNetdev  # processes and temporary files, which few need

            return UserNetdev(id, self, options)
        if kind == "tap":
            from ratite.core.backends.net.tap import TapNetdev

            return TapNetdev(id, self, options)
        if kind == "dgram":
            from ratite.core.backends.net.dgram import DgramNetdev

            return DgramNetdev(id, self, options)
        from ratite.core.backends import sockets
        from ratite.core.backends.dialer import delay_of
        from ratite.core.backends.net.stream import StreamNetdev

        if kind == "stream":
            address, server = sockets.parse_address(options.get("addr")), options.get("server", False)
            refusal = "'reconnect' and 'reconnect-ms' options are incompatible with socket in server mode"
            delay = delay_of(options.get("reconnect"), options.get("reconnect-ms"), server, refusal)
            return StreamNetdev(id, self, address, server, delay=delay)
        ways = [way for way in ("fd", "listen", "connect") if way in options]
        if len(ways) != 1:
            raise GenericError("exactly one of listen=, connect=, mcast= or udp= is required")
        way, text = ways[0], options[ways[0]]
        if way == "fd":
            address = sockets.parse_address({"type": "fd", "str": text, "name": options.get("fd-name", text)})
            return StreamNetdev(id, self, address, False, events=False)
        host, colon, port = text.rpartition(":")
        if not colon:
            raise GenericError(f"host address '{text}' doesn't contain ':' separating host from port")
        return StreamNetdev(id, self, sockets.Address("inet", host, port), way == "listen", events=False)

    def find(self, id: str) -> Netdev:
        """The netdev; DeviceNotFound."""
        found = self.children.get(id)
        if found is None:
            raise DeviceNotFound(f"Device '{id}' not found")
        return cast("Netdev", found)

    def remove(self, id: str) -> None:
        """netdev_del; refused while a device uses it."""
        found = self.find(id)
        if found.frontend is not None:
            raise GenericError(f"Netdev '{id}' is in use")
        self.remove_child(found)
        found.close()
        found.phase = "unrealized"

    def close(self) -> None:
        """The machine goes, and every netdev with it."""
        for id in list(self.children):
            self.find(id).detach()
            self.remove(id)
