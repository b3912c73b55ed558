"""A WebSocket as its client sees it, without IO: bytes in, messages and bytes out (RFC 6455, by wsproto).

Text messages only, no extensions, no subprotocols.  The sizes of messages are the server's business: it is trusted as
far as a client that has just sent it a token must.
"""

from __future__ import annotations

from collections.abc import Mapping

from wsproto import ConnectionType, WSConnection
from wsproto.events import (
    AcceptConnection,
    BytesMessage,
    CloseConnection,
    Event,
    Ping,
    RejectConnection,
    RejectData,
    Request,
    TextMessage,
)
from wsproto.utilities import ProtocolError


class WebSocketError(Exception):
    """The server doesn't speak as it should, or refused; the text says what it said."""


class WebSocket:
    """`opening` is to be sent first.  `feed` gives the messages that bytes complete; `output` what is to be sent back."""

    def __init__(self, path: str, host: str, headers: Mapping[str, str]) -> None:
        self._protocol = WSConnection(ConnectionType.CLIENT)
        given = [(name.encode(), value.encode()) for name, value in headers.items()]
        self.opening: bytes = self._protocol.send(Request(host=host, target=path, extra_headers=given))
        self.open = False
        self.headers: Mapping[str, str] = {}  # of the server's answer, names in small letters
        self.closed = False
        self._out = bytearray()
        self._parts: list[str] = []
        self._refusal = ""

    def feed(self, data: bytes) -> list[str]:
        """The messages that are complete now.  WebSocketError."""
        messages: list[str] = []
        try:
            self._protocol.receive_data(data)
            for event in self._protocol.events():
                self._take(event, messages)
        except ProtocolError as error:
            raise WebSocketError(f"the server is no WebSocket server: {error}") from None
        return messages

    def output(self) -> bytes:
        """What the protocol itself has to say."""
        data = bytes(self._out)
        self._out.clear()
        return data

    def text(self, message: str) -> bytes:
        """A message as a frame."""
        return self._protocol.send(TextMessage(message))

    def goodbye(self) -> bytes:
        """The frame that closes; nothing can be sent behind it."""
        return b"" if self.closed else self._protocol.send(CloseConnection(code=1000))

    def _take(self, event: Event, messages: list[str]) -> None:
        match event:
            case TextMessage():
                self._parts.append(event.data)
                if event.message_finished:
                    messages.append("".join(self._parts))
                    self._parts.clear()
            case AcceptConnection():
                self.open = True
                self.headers = _names(event.extra_headers)
            case Ping():
                self._out += self._protocol.send(event.response())
            case CloseConnection():
                self.closed = True
                self._out += self._protocol.send(event.response())
            case BytesMessage():
                raise WebSocketError("the server sends binary messages")
            case RejectConnection():
                self.headers = _names(event.headers)
                self._refusal = f"{event.status_code}: "
                if not event.has_body:
                    raise WebSocketError(self._refusal)
            case RejectData():
                self._refusal += bytes(event.data).decode("utf-8", "replace")
                if event.body_finished:
                    raise WebSocketError(self._refusal.strip())


def _names(headers: list[tuple[bytes, bytes]]) -> dict[str, str]:
    return {bytes(name).decode("latin-1").lower(): bytes(value).decode("latin-1") for name, value in headers}
