"""A WebSocket as its client sees it, without IO: bytes in, messages and bytes out (RFC 6455).

Text messages only, no extensions, no subprotocols.  The sizes of frames are the server's business: it is trusted as far
as a client that has just sent it a token must.
"""

from __future__ import annotations

import base64
import hashlib
import os
from collections.abc import Mapping

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_TEXT, _CLOSE, _PING, _PONG = 1, 8, 9, 10
_HEAD_MAX = 1 << 16


class WebSocketError(Exception):
    """The server doesn't speak as it should, or refused; the text says what it said."""


class WebSocket:
    """`opening` is to be sent first.  `feed` gives the messages that bytes complete; `output` what is to be sent back."""

    def __init__(self, path: str, host: str, headers: Mapping[str, str]) -> None:
        key = base64.b64encode(os.urandom(16))
        lines = {
            "Host": host, "Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Key": key.decode(),
            "Sec-WebSocket-Version": "13", **headers,
        }  # fmt: skip
        head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
        self.opening = f"GET {path} HTTP/1.1\r\n{head}\r\n".encode()
        self.open = False
        self.headers: Mapping[str, str] = {}  # of the server's answer, names in small letters
        self.closed = False
        self._accept = base64.b64encode(hashlib.sha1(key + _GUID).digest()).decode()
        self._in = bytearray()
        self._out = bytearray()
        self._parts = bytearray()

    def feed(self, data: bytes) -> list[str]:
        """The messages that are complete now.  WebSocketError."""
        self._in += data
        if not self.open and not self._opened():
            return []
        messages = []
        while not self.closed:
            frame = self._frame()
            if frame is None:
                break
            final, kind, payload = frame
            if kind == _PING:
                self._out += encode(_PONG, payload)
            elif kind == _CLOSE:
                self.closed = True
                self._out += encode(_CLOSE, payload[:2])
            elif kind in (0, _TEXT):
                self._parts += payload
                if final:
                    messages.append(self._parts.decode())
                    self._parts.clear()
        return messages

    def output(self) -> bytes:
        """What the protocol itself has to say."""
        data = bytes(self._out)
        self._out.clear()
        return data

    def _opened(self) -> bool:
        end = self._in.find(b"\r\n\r\n")
        if end < 0:
            if len(self._in) > _HEAD_MAX:
                raise WebSocketError("the server's answer has no end")
            return False
        status, *lines = bytes(self._in[:end]).decode("latin-1").split("\r\n")
        body = bytes(self._in[end + 4 :])
        headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        self.headers = headers
        if status.split(" ")[1:2] != ["101"]:
            raise WebSocketError(f"{status.partition(' ')[2]}: {body[:200].decode('utf-8', 'replace').strip()}")
        if headers.get("sec-websocket-accept") != self._accept:
            raise WebSocketError("the server is no WebSocket server")
        del self._in[: end + 4]
        self.open = True
        return True

    def _frame(self) -> tuple[bool, int, bytes] | None:
        data = self._in
        if len(data) < 2:
            return None
        size, at = data[1] & 0x7F, 2
        if size > 125:
            width = 2 if size == 126 else 8
            if len(data) < 2 + width:
                return None
            size, at = int.from_bytes(data[2 : 2 + width], "big"), 2 + width
        if len(data) < at + size:
            return None
        payload = bytes(data[at : at + size])
        head = data[0]
        del data[: at + size]
        return bool(head & 0x80), head & 0x0F, payload


def encode(kind: int, payload: bytes) -> bytes:
    """One masked frame."""
    size = len(payload)
    if size < 126:
        head = bytes((0x80 | kind, 0x80 | size))
    elif size < 1 << 16:
        head = bytes((0x80 | kind, 0xFE)) + size.to_bytes(2, "big")
    else:
        head = bytes((0x80 | kind, 0xFF)) + size.to_bytes(8, "big")
    mask = os.urandom(4)
    # As one number: a byte at a time would take a second for a machine file.
    key = int.from_bytes((mask * (size // 4 + 1))[:size], "big")
    return head + mask + (int.from_bytes(payload, "big") ^ key).to_bytes(size, "big")


def text(message: str) -> bytes:
    """A message as a frame."""
    return encode(_TEXT, message.encode())


def goodbye() -> bytes:
    """The frame that closes."""
    return encode(_CLOSE, (1000).to_bytes(2, "big"))
