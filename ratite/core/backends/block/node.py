"""`BlockNode`: what every block node has: its users, who may write it, and requests.

A user is a device, or a node that stands on this one.  A device lets nobody else write what it uses, so a node has one
user that writes or any number that only read.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from ratite.core.backends.block.account import stats_of_a_node
from ratite.core.backends.block.worker import DISCARD, FLUSH, NOTHING, WRITE, ZERO
from ratite.core.objects.obj import Obj
from ratite.core.objects.props import debug
from ratite.qapi.errors import GenericError

if TYPE_CHECKING:
    from ratite.core.backends.block.worker import Request

SECTOR = 512


class User(NamedTuple):
    """Who uses a node: its words for messages, and whether it writes."""

    text: str
    writes: bool


class BlockNode(Obj):
    """A block node: the part that all drivers have."""

    TYPE: ClassVar[str] = "block-node"
    KIND: ClassVar[str] = ""
    ABSTRACT: ClassVar[bool] = True
    DRIVER: ClassVar[str] = ""

    size = debug("uint64", text="size that a guest sees", unit="bytes", getter="length")
    read_only = debug("bool", False, "whether writing is refused")

    def __init__(self, id: str, read_only: bool, discard: bool, no_flush: bool, direct: bool = False) -> None:
        super().__init__(id)
        self.read_only = read_only
        # Whether discarding gives blocks back to the host.
        self.unmap = discard
        self.no_flush = no_flush
        # Whether the host's cache is left out.
        self.direct = direct
        self.users: dict[Any, User] = {}
        self.wr_highest_offset = 0
        # Whether it was made along with the node that stands on it, and goes with that.
        self.implicit = False
        # As blockdev-add took it; of a node that was made along with another one nothing.
        self.options: Mapping[str, Any] = {}

    @property
    def filename(self) -> str:
        """Path of the image."""
        raise NotImplementedError

    def length(self) -> int:
        """Bytes, a multiple of the sector."""
        raise NotImplementedError

    def file_bytes(self) -> int:
        """Bytes that the image takes on the host."""
        raise NotImplementedError

    def submit(self, request: Request) -> None:
        """Have it done, as far as the node's options don't make nothing of it.  Inside the node; under the machine lock."""
        if (request.op == DISCARD and not self.unmap) or (request.op == FLUSH and self.no_flush):
            request.op = NOTHING
        if self.no_flush:
            request.sync = False
        if not self.unmap:
            request.unmap = False
        request.passed.append((self, request.offset + request.size))
        self.forward(request)

    def passed_by(self, request: Request, end: int) -> None:
        """See `Passed`."""
        if request.op in (WRITE, ZERO) and not request.error:
            self.wr_highest_offset = max(self.wr_highest_offset, end)

    def stats(self) -> dict[str, Any]:
        """BlockStats of the node alone, as query-blockstats shows nodes."""
        return {"node-name": self.id, "stats": stats_of_a_node(self.wr_highest_offset)}

    def forward(self, request: Request) -> None:
        """Have it done by what stands below."""
        raise NotImplementedError

    def use(self, key: Any, user: User) -> None:
        """`key` uses the node from now on, or changes what it does; GenericError in QEMU's words."""
        if user.writes and self.read_only:
            raise GenericError(f"Block node '{self.id}' is read-only")
        for other_key, other in self.users.items():
            if other_key is not key and (user.writes or other.writes):
                need, forbid = (user, other) if user.writes else (other, user)
                if user.writes and other.writes:
                    need, forbid = other, user
                raise GenericError(
                    f"Permission conflict on node '{self.id}': permissions 'write' are both required by {need.text} "
                    f"and unshared by {forbid.text}."
                )
        was = self.users.get(key)
        self.users[key] = user
        try:
            self.users_changed()
        except GenericError:
            if was is None:
                del self.users[key]
            else:
                self.users[key] = was
            raise

    def release(self, key: Any) -> None:
        """`key` uses the node no more."""
        if self.users.pop(key, None) is not None:
            self.users_changed()

    def users_changed(self) -> None:
        """Somebody came or went; GenericError when what is used below isn't to be had."""

    def close(self) -> None:
        """The node goes."""

    def cache_info(self) -> dict[str, bool]:
        """BlockdevCacheInfo."""
        return {"writeback": True, "direct": self.direct, "no-flush": self.no_flush}

    def info(self) -> dict[str, Any]:
        """BlockDeviceInfo, as query-named-block-nodes and query-block show it."""
        limits = dict.fromkeys(("bps", "bps_rd", "bps_wr", "iops", "iops_rd", "iops_wr"), 0)
        image = {
            "filename": self.filename, "format": self.DRIVER, "virtual-size": self.length(), "actual-size": self.file_bytes(),
            "dirty-flag": False,
        }  # fmt: skip
        return {
            "file": self.filename, "node-name": self.id, "ro": self.read_only, "drv": self.DRIVER, "backing_file_depth": 0,
            "active": True, "encrypted": False, "detect_zeroes": "off", **limits, "image": image, "cache": self.cache_info(),
            "write_threshold": 0,
        }  # fmt: skip
