"""One client of an NBD server: the network block device protocol, newstyle, without a socket.

    flags ──> options (LIST, INFO, GO, …) ──GO, EXPORT_NAME──> requests and simple replies ──DISC, a broken rule──> over

Bytes come by `received`, what is to be sent stands in `out`.  Requests go to the export's node, which answers them later, in
whatever order.  Specification: NetworkBlockDevice/nbd, doc/proto.md.  Left out: TLS, structured replies and with them block
status, extended headers, resizing, the cache command.
"""

from __future__ import annotations

import errno
import struct
from collections.abc import Mapping
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Protocol

from ratite.core.backends.block.worker import DISCARD, FLUSH, READ, WRITE, ZERO, Request

if TYPE_CHECKING:
    from ratite.core.backends.block.node import BlockNode

MAGIC, OPTION, REPLY = 0x4E42444D41474943, 0x49484156454F5054, 0x3E889045565A9
REQUEST, SIMPLE = 0x25609513, 0x67446698
FIXED, NO_ZEROES = 1, 2
EXPORT_NAME, ABORT, LIST, INFO, GO = 1, 2, 3, 6, 7
ACK, SERVER, REP_INFO = 1, 2, 3
ERR_UNSUP, ERR_INVALID, ERR_UNKNOWN, ERR_TOO_BIG = (1 << 31 | n for n in (1, 3, 6, 9))
INFO_EXPORT, INFO_NAME, INFO_DESCRIPTION, INFO_SIZES = range(4)
HAS_FLAGS, READ_ONLY, SEND_FLUSH, SEND_FUA, SEND_TRIM, SEND_ZEROES = 1, 2, 4, 8, 32, 64
CMD_READ, CMD_WRITE, CMD_DISC, CMD_FLUSH, CMD_TRIM, CMD_ZEROES = 0, 1, 2, 3, 4, 6
FUA, NO_HOLE = 1, 2
OPTION_MAX = 4096 + 64  # bytes of an option: a name is 4096 at most
TRANSFER_MAX = 32 << 20  # bytes of one request
# With more bytes unsent or under way, or more requests, a client's next request waits.
HELD_MAX, REQUESTS_MAX = 16 << 20, 64

_OPERATIONS: Mapping[int, str] = MappingProxyType({
    CMD_READ: READ, CMD_WRITE: WRITE, CMD_FLUSH: FLUSH, CMD_TRIM: DISCARD, CMD_ZEROES: ZERO,
})  # fmt: skip
# Errors that the protocol has numbers for: Linux's.
_ERRORS = (errno.EPERM, errno.EIO, errno.ENOMEM, errno.EINVAL, errno.ENOSPC)
_NUMBERS: Mapping[int, int] = MappingProxyType(dict(zip(_ERRORS, (1, 5, 12, 22, 28), strict=True)))
_EPERM, _EIO, _EINVAL, _ENOSPC = 1, 5, 22, 28
_OPTION_HEAD, _REPLY_HEAD = struct.Struct(">QII"), struct.Struct(">QIII")
_REQUEST_HEAD, _SIMPLE_HEAD = struct.Struct(">IHHQQI"), struct.Struct(">IIQ")


class Exported(Protocol):
    """What a client may ask for."""

    name: str
    description: str
    node: BlockNode
    writable: bool
    writethrough: bool
    clients: set[NbdClient]


class NbdClient:
    """See the module's head; under the machine lock.  `over`: nothing more is to be read."""

    def __init__(self, exports: Mapping[str, Exported]) -> None:
        self.out = bytearray(struct.pack(">QQH", MAGIC, OPTION, FIXED | NO_ZEROES))
        self.over = False
        self.export: Exported | None = None
        # Requests and bytes of data that the node has.
        self.under_way = 0
        self.bytes_under_way = 0
        self._exports = exports
        self._in = bytearray()
        self._greeted = self._short = False

    def received(self, data: bytes) -> None:
        """The client has sent more."""
        self._in += data
        self.go_on()

    @property
    def full(self) -> bool:
        """Whether its requests wait: for the node, or until the client reads."""
        return len(self.out) + self.bytes_under_way > HELD_MAX or self.under_way >= REQUESTS_MAX

    def go_on(self) -> None:
        """Look at what has come, as far as there is room for answers."""
        while not self.over and not self.full and self._step():
            pass

    def close(self) -> None:
        """It is gone; what the node does yet is nobody's."""
        self.over = True
        self._in.clear()
        if self.export is not None:
            self.export.clients.discard(self)

    def _step(self) -> bool:
        if self.export is not None:
            return self._request()
        return self._option() if self._greeted else self._greet()

    def _take(self, size: int) -> bytes:
        data = bytes(self._in[:size])
        del self._in[:size]
        return data

    # -- options

    def _greet(self) -> bool:
        if len(self._in) < 4:
            return False
        flags = int.from_bytes(self._take(4), "big")
        self._greeted, self._short = True, bool(flags & NO_ZEROES)
        self.over = bool(flags & ~(FIXED | NO_ZEROES)) or not flags & FIXED
        return True

    def _option(self) -> bool:
        if len(self._in) < _OPTION_HEAD.size:
            return False
        magic, option, size = _OPTION_HEAD.unpack_from(self._in)
        if magic != OPTION or size > OPTION_MAX:
            self.over = True
            return False
        if len(self._in) < _OPTION_HEAD.size + size:
            return False
        self._take(_OPTION_HEAD.size)
        data = self._take(size)
        if option == EXPORT_NAME:
            self._old_go(data)
        elif option == ABORT:
            self._reply(option, ACK)
            self.over = True
        elif option == LIST:
            self._list(data)
        elif option in (INFO, GO):
            self._go(option, data)
        else:
            self._reply(option, ERR_UNSUP)
        return True

    def _reply(self, option: int, kind: int, data: bytes = b"") -> None:
        self.out += _REPLY_HEAD.pack(REPLY, option, kind, len(data)) + data

    def _list(self, data: bytes) -> None:
        if data:
            self._reply(LIST, ERR_INVALID)
            return
        for name, export in self._exports.items():
            text = name.encode()
            self._reply(LIST, SERVER, struct.pack(">I", len(text)) + text + export.description.encode())
        self._reply(LIST, ACK)

    def _old_go(self, data: bytes) -> None:
        export = self._exports.get(data.decode("utf-8", "replace"))
        if export is None:
            self.over = True
            return
        self.out += struct.pack(">QH", export.node.length(), _flags(export)) + (b"" if self._short else bytes(124))
        self._begin(export)

    def _go(self, option: int, data: bytes) -> None:
        size = int.from_bytes(data[:4], "big")
        name, rest = data[4 : 4 + size], data[4 + size :]
        count = int.from_bytes(rest[:2], "big")
        if len(data) < 6 or len(rest) != 2 + 2 * count:
            self._reply(option, ERR_INVALID)
            return
        export = self._exports.get(name.decode("utf-8", "replace"))
        if export is None:
            self._reply(option, ERR_UNKNOWN)
            return
        wanted = struct.unpack(f">{count}H", rest[2:])
        for kind, text in (INFO_NAME, export.name), (INFO_DESCRIPTION, export.description):
            if kind in wanted:
                self._reply(option, REP_INFO, struct.pack(">H", kind) + text.encode())
        self._reply(option, REP_INFO, struct.pack(">HIII", INFO_SIZES, 1, 4096, TRANSFER_MAX))
        self._reply(option, REP_INFO, struct.pack(">HQH", INFO_EXPORT, export.node.length(), _flags(export)))
        self._reply(option, ACK)
        if option == GO:
            self._begin(export)

    def _begin(self, export: Exported) -> None:
        self.export = export
        export.clients.add(self)

    # -- requests

    def _request(self) -> bool:
        if len(self._in) < _REQUEST_HEAD.size:
            return False
        magic, flags, command, handle, offset, size = _REQUEST_HEAD.unpack_from(self._in)
        data = size if command == CMD_WRITE else 0
        if magic != REQUEST or data > TRANSFER_MAX:
            self.over = True
            return False
        if len(self._in) < _REQUEST_HEAD.size + data:
            return False
        self._take(_REQUEST_HEAD.size)
        self._execute(command, flags, handle, offset, size, self._take(data))
        return True

    def _execute(self, command: int, flags: int, handle: int, offset: int, size: int, data: bytes) -> None:
        assert self.export is not None, "requests follow GO"
        if command == CMD_DISC:
            self.over = True
            return
        error = self._refusal(command, flags, offset, size)
        if error:
            self._answer(handle, error)
            return
        op, held = _OPERATIONS[command], size if command in (CMD_READ, CMD_WRITE) else 0
        sync = op not in (READ, FLUSH) and bool(flags & FUA or self.export.writethrough)
        pieces = (data,) if command == CMD_WRITE else ()
        done = partial(self._done, handle, held)
        self.under_way += 1
        self.bytes_under_way += held
        self.export.node.submit(Request(op, offset, size, done, pieces, sync, not flags & NO_HOLE))

    def _refusal(self, command: int, flags: int, offset: int, size: int) -> int:
        """The error of what can't be; 0."""
        assert self.export is not None, "requests follow GO"
        allowed = FUA | (NO_HOLE if command == CMD_ZEROES else 0)
        if command not in _OPERATIONS or flags & ~allowed:
            return _EINVAL
        if command in (CMD_WRITE, CMD_TRIM, CMD_ZEROES) and not self.export.writable:
            return _EPERM
        if command == CMD_READ and size > TRANSFER_MAX:
            return _EINVAL
        if command != CMD_FLUSH and offset + size > self.export.node.length():
            return _ENOSPC if command in (CMD_WRITE, CMD_ZEROES) else _EINVAL
        return 0

    def _done(self, handle: int, held: int, request: Request) -> None:
        """The node has done it; on the owner thread."""
        self.under_way -= 1
        self.bytes_under_way -= held
        if not self.over:
            self._answer(handle, _NUMBERS.get(request.error, _EIO) if request.error else 0)
            if request.op == READ and not request.error:
                self.out += request.data[0]
            self.go_on()
            self.answered()

    def _answer(self, handle: int, error: int) -> None:
        self.out += _SIMPLE_HEAD.pack(SIMPLE, error, handle)

    def answered(self) -> None:
        """Something that the node has done is in `out`.  The connection's own."""


def _flags(export: Exported) -> int:
    common = HAS_FLAGS | SEND_FLUSH | SEND_FUA
    return common | (SEND_TRIM | SEND_ZEROES if export.writable else READ_ONLY)
