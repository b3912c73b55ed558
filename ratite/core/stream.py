"""AXI4-Stream links between devices: words of 32 bits with a control bit (TLAST), from a master port to a slave port.

A *link* is an object of its own that holds words under way. A device with ports is a ``StreamEnd``; links join it when they are
wired and tell it of TVALID (a slave port has a word to take) and TREADY (a master port may give one). Everything happens
under the machine's lock.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from ratite.qapi.errors import GenericError

if TYPE_CHECKING:
    from ratite.core.device import Device as _Base
else:
    _Base = object

STREAM_END = "stream-end"
MASTER, SLAVE = "master", "slave"


class StreamLink(Protocol):
    """What an end does with a link."""

    @property
    def path(self) -> str:
        """Where it is, for messages."""

    def ready(self) -> bool:
        """Whether there is room for a word."""

    def push(self, word: int, control: bool) -> None:
        """Take a word; there is room."""

    def head(self) -> tuple[int, bool] | None:
        """The word to be taken next and its control bit."""

    def pop(self) -> None:
        """That word was taken."""


class StreamEnd(_Base):
    """What a device with AXI4-Stream ports has besides; the type implements ``STREAM_END``. ``_links``: what has joined, by
    role and port."""

    def __init__(self, id: str) -> None:
        super().__init__(id)
        self._links: dict[tuple[str, int], StreamLink] = {}

    def stream_ports(self) -> int:
        """How many master ports there are, and as many slave ports."""
        raise NotImplementedError

    def join_stream(self, role: str, port: int, link: StreamLink) -> None:
        """``link`` starts (MASTER) or ends (SLAVE) at this port; GenericError where there is none or it is taken."""
        count = self.stream_ports()
        if port >= count:
            has = f"{count} stream ports, numbered from 0" if count else "no stream ports"
            raise GenericError(f"'{self.path}' (type '{self.TYPE}') has {has}, there is no {role} port {port}")
        other = self._links.get((role, port))
        if other is not None:
            raise GenericError(f"{role} port {port} of '{self.path}' is already linked (by '{other.path}')")
        self._links[role, port] = link
        self.stream_changed(role, port)

    def leave_stream(self, role: str, port: int, link: StreamLink) -> None:
        """``link`` goes."""
        if self._links.get((role, port)) is link:
            del self._links[role, port]
            self.stream_changed(role, port)

    def stream_level(self, role: str, port: int) -> bool:
        """TREADY of a master port, TVALID of a slave port; never where no link is."""
        link = self._links.get((role, port))
        if link is None:
            return False
        return link.ready() if role == MASTER else link.head() is not None

    def stream_changed(self, role: str, port: int) -> None:
        """``stream_level`` of this port may have changed."""
        raise NotImplementedError
