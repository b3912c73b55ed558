"""The server's side of Telnet (RFC 854, 856, 857, 858): 8-bit characters, echoed by the far end, one at a time.

Options are offered at the start; what the client says to them is read and needs no answer.  A client's BREAK is a break on
the line.
"""

from __future__ import annotations

IAC, DONT, DO, WONT, WILL, SB, BRK, SE = 255, 254, 253, 252, 251, 250, 243, 240
BINARY, ECHO, SUPPRESS_GO_AHEAD = 0, 1, 3

OFFER = bytes((IAC, WILL, ECHO, IAC, WILL, SUPPRESS_GO_AHEAD, IAC, WILL, BINARY, IAC, DO, BINARY))

_DATA, _COMMAND, _OPTION, _SUB, _SUB_COMMAND = range(5)


def escaped(data: bytes) -> bytes:
    """`data` as it is sent: a byte 255 stands twice."""
    return data.replace(b"\xff", b"\xff\xff")


class Reader:
    """Takes the protocol out of what a client sends, however it is cut."""

    def __init__(self) -> None:
        self._state = _DATA
        self.breaks = 0  # that came since somebody set it to 0

    def feed(self, data: bytes) -> bytes:
        """The characters among `data`."""
        if self._state == _DATA and b"\xff" not in data:
            return data
        found = bytearray()
        for byte in data:
            self._step(byte, found)
        return bytes(found)

    def _step(self, byte: int, found: bytearray) -> None:
        state, self._state = self._state, _DATA
        if state == _DATA:
            if byte == IAC:
                self._state = _COMMAND
            else:
                found.append(byte)
        elif state == _COMMAND:
            if byte == IAC:
                found.append(IAC)
            elif byte in (WILL, WONT, DO, DONT):
                self._state = _OPTION
            elif byte == SB:
                self._state = _SUB
            elif byte == BRK:
                self.breaks += 1
        elif state == _SUB:
            self._state = _SUB_COMMAND if byte == IAC else _SUB
        elif state == _SUB_COMMAND:
            self._state = _DATA if byte == SE else _SUB
