"""`BlockNode`: what every block node has: its users, who may write it, and requests.

A user is a device, or a node that stands on this one.  A device lets nobody else write what it uses, so a node has one
user that writes or any number that only read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from ratite.core.backends.block.account import stats_of_a_node
from ratite.core.backends.block.worker import DISCARD, FLUSH, NOTHING, WRITE, ZERO
from ratite.core.objects.obj import Obj
from ratite.core.objects.props import debug
from ratite.qapi.errors import GenericError

if TYPE_CHECKING:
    from ratite.core.backends.block.copy import CopyJob
    from ratite.core.backends.block.iothread import IoThread
    from ratite.core.backends.block.worker import Request

SECTOR = 512


class User(NamedTuple):
    """Who uses a node: its words for messages, whether it writes, and whether it lets others write."""

    text: str
    writes: bool
    shares: bool = False


class NodeOptions(NamedTuple):
    """The options of all drivers (BlockdevOptions)."""

    read_only: bool = False
    # Where the image can't be opened for writing it is read-only all the same.
    auto_read_only: bool = False
    # Others may do what they like to the image; for nodes that are only read.
    force_share: bool = False
    # Whether discarding gives blocks back to the host.
    unmap: bool = False
    no_flush: bool = False
    # Whether the host's cache is left out.
    direct: bool = False
    # "off"; "on": writes of zeros are done as such; "unmap": by a hole.
    detect_zeroes: str = "off"

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> NodeOptions:
        """Out of BlockdevOptions; GenericError."""
        cache = options.get("cache", {})
        made = cls(
            options.get("read-only", False), options.get("auto-read-only", False), options.get("force-share", False),
            options.get("discard", "ignore") == "unmap", cache.get("no-flush", False), cache.get("direct", False),
            options.get("detect-zeroes", "off"),
        )  # fmt: skip
        if made.detect_zeroes == "unmap" and not made.unmap:
            raise GenericError("setting detect-zeroes to unmap is not allowed without setting discard operation to unmap")
        if made.force_share and not made.read_only:
            raise GenericError("force-share=on can only be used with read-only images")
        return made


class BlockNode(Obj):
    """A block node: the part that all drivers have."""

    TYPE: ClassVar[str] = "block-node"
    KIND: ClassVar[str] = ""
    ABSTRACT: ClassVar[bool] = True
    DRIVER: ClassVar[str] = ""
    # Bytes of an image at most, as QEMU has it.
    LENGTH_MAX: ClassVar[int] = (1 << 63) - (1 << 30)

    size = debug("uint64", text="size that a guest sees", unit="bytes", getter="length")
    read_only = debug("bool", False, "whether writing is refused")

    def __init__(self, id: str, chosen: NodeOptions) -> None:
        super().__init__(id)
        self.chosen = chosen
        self.read_only = chosen.read_only
        # A write that reaches further is told (BLOCK_WRITE_THRESHOLD), once; 0: none is.
        self.write_threshold = 0
        self.users: dict[Any, User] = {}
        # The job that copies the node: it sees every request.
        self.job: CopyJob | None = None
        self.wr_highest_offset = 0
        # Whether it was made along with the node that stands on it, and goes with that.
        self.implicit = False
        # What `-drive` calls the disk that it is: the `device` of QEMU's older commands; "": it was made otherwise.
        self.drive = ""
        # The node that it stands on.
        self.below: BlockNode | None = None
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
        if self.job is None or not self.job.intercept(request):
            self.submit_past_job(request)

    def submit_past_job(self, request: Request) -> None:
        """The same for what the node's job has seen."""
        chosen = self.chosen
        if (request.op == DISCARD and not chosen.unmap) or (request.op == FLUSH and chosen.no_flush):
            request.op = NOTHING
        if chosen.detect_zeroes != "off" and request.op == WRITE and all_zero(request.data):
            request.op, request.data = ZERO, ()
            request.unmap = chosen.detect_zeroes == "unmap"
        if chosen.no_flush:
            request.sync = False
        if not chosen.unmap:
            request.unmap = False
        if self.write_threshold and request.op in (WRITE, ZERO):
            self._look_at_threshold(request.offset + request.size)
        request.passed.append((self, request.offset + request.size))
        self.forward(request)

    def _look_at_threshold(self, end: int) -> None:
        threshold = self.write_threshold
        if end > threshold:
            self.write_threshold = 0
            place: Any = self.parent
            place.emit("BLOCK_WRITE_THRESHOLD", {
                "node-name": self.id, "amount-exceeded": end - threshold, "write-threshold": threshold,
            })  # fmt: skip

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

    def served_by(self, thread: IoThread | None) -> None:
        """A device names the thread that does its I/O; None: each image's own.  GenericError while requests are under way."""
        raise NotImplementedError

    def use(self, key: Any, user: User) -> None:
        """`key` uses the node from now on, or changes what it does; GenericError in QEMU's words."""
        if user.writes and self.read_only:
            raise GenericError(f"Block node '{self.id}' is read-only")
        for other_key, other in self.users.items():
            if other_key is key:
                continue
            pairs = ((other, user), (user, other))
            for need, forbid in [pair for pair in pairs if pair[0].writes and not pair[1].shares]:
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

    def check_free(self) -> None:
        """GenericError while a job copies the node."""
        if self.job is not None:
            raise GenericError(f"Node '{self.id}' is busy: block device is in use by block job: {self.job.KIND}")

    def replace_by(self, other: BlockNode) -> None:
        """Who uses the node uses another one of its size from now on."""
        for user in tuple(self.users):
            user.drive_replaced(other)

    def check_reopen(self, options: Mapping[str, Any]) -> None:
        """GenericError for options that can't be changed to those of BlockdevOptions."""
        if options["driver"] != self.DRIVER:
            raise GenericError("Cannot change the option 'driver'")
        if options.get("read-only", False) and any(user.writes for user in self.users.values()):
            raise GenericError(f"Read-only block node '{self.id}' cannot support read-write users")

    def reopen(self, chosen: NodeOptions, options: Mapping[str, Any]) -> None:
        """The node has these options from now on, which `check_reopen` has let pass.  GenericError, and nothing changed."""
        self.chosen = chosen
        self.read_only = chosen.read_only

    def resize(self, size: int) -> None:
        """The image is to be `size` bytes long; users are told.  GenericError."""
        raise GenericError(f"Image format driver '{self.DRIVER}' does not support resize")

    def resized(self) -> None:
        """The node is as long as `length` says now; its users are told."""
        for user in tuple(self.users):
            user.drive_resized()

    def users_changed(self) -> None:
        """Somebody came or went; GenericError when what is used below isn't to be had."""

    def close(self) -> None:
        """The node goes."""

    def cache_info(self) -> dict[str, bool]:
        """BlockdevCacheInfo."""
        return {"writeback": True, "direct": self.chosen.direct, "no-flush": self.chosen.no_flush}

    def info(self) -> dict[str, Any]:
        """BlockDeviceInfo, as query-named-block-nodes and query-block show it."""
        # The schema has an int64 here, of what is set as a uint64.
        threshold = self.write_threshold - (self.write_threshold >> 63 << 64)
        limits = dict.fromkeys(("bps", "bps_rd", "bps_wr", "iops", "iops_rd", "iops_wr"), 0)
        image = {
            "filename": self.filename, "format": self.DRIVER, "virtual-size": self.length(), "actual-size": self.file_bytes(),
            "dirty-flag": False, **self.image_info(),
        }  # fmt: skip
        return {
            "file": self.filename, "node-name": self.id, "ro": self.read_only, "drv": self.DRIVER, "backing_file_depth": 0,
            "active": True, "encrypted": False, "detect_zeroes": self.chosen.detect_zeroes, **limits, "image": image,
            "cache": self.cache_info(), "write_threshold": threshold,
        }  # fmt: skip

    def image_info(self) -> dict[str, Any]:
        """What ImageInfo has besides."""
        return {}


def all_zero(data: Sequence[bytes | bytearray]) -> bool:
    """Whether there is nothing but zeros in it."""
    return not any(piece.strip(b"\0") for piece in data)
