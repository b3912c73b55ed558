"""virtio-blk: a disk.  Virtio 1.2, section 5.2.

    driver ──chain──> header, data ──Request──> block node's thread ──owner──> data, status byte ──> used ring

Requests are checked here, done by the node off the vCPU's and the owner's thread, and end on the owner.  What is read
goes to memory, and what is written comes from it, under the machine lock.  Data under way is bounded (BUDGET): past it the
rings wait.  A host error and a short read are the event BLOCK_IO_ERROR and what `rerror` and `werror` say: VIRTIO_BLK_S_IOERR
(report), success (ignore), or the machine stops and the request is done again when it goes on (stop; enospc: where the host's
disk is full, else report; auto: report for reads, enospc for the rest).

Without VIRTIO_BLK_F_FLUSH accepted, every write is on the disk before it is done (section 5.2.6.2).

Left out: CONFIG_WCE, lifetime, secure erase, zones.  Requests that wait for the machine to go on are no part of its state.
"""

from __future__ import annotations

import errno
import os
import struct
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from ratite.core.backends.block.account import KIND_OF, Account
from ratite.core.backends.block.node import User
from ratite.core.backends.block.throttle import Limits
from ratite.core.backends.block.worker import Request
from ratite.core.objects.props import config, debug, link, state
from ratite.hw.virtio.bus import OnVirtioBus
from ratite.hw.virtio.device import VirtioDevice
from ratite.hw.virtio.queue import QueueError
from ratite.qapi.errors import GenericError

if TYPE_CHECKING:
    from ratite.core.backends.block.iothread import IoThread
    from ratite.core.backends.block.node import BlockNode
    from ratite.core.backends.block.throttle import ThrottleGroup
    from ratite.hw.virtio.queue import Chain, Queue

F_SEG_MAX, F_RO, F_BLK_SIZE, F_FLUSH, F_TOPOLOGY, F_MQ, F_DISCARD, F_WRITE_ZEROES = (
    1 << n for n in (2, 5, 6, 9, 10, 12, 13, 14)
)
T_IN, T_OUT, T_FLUSH, T_GET_ID, T_DISCARD, T_WRITE_ZEROES = 0, 1, 4, 8, 11, 13
OK, IOERR, UNSUPP = 0, 1, 2

SECTOR = 512
HEADER = 16
ID_BYTES = 20
BUDGET = 32 << 20  # bytes of data under way; also the most that one request may have
SECTORS_MAX = 0x3FFFFF  # of one discard or write-zeroes
UNMAP = 1  # flag of a range

_STATUS = (b"\0", b"\1", b"\2")
_HEADER = struct.Struct("<IIQ")
_RANGE = struct.Struct("<QII")
# capacity, size_max, seg_max, geometry, blk_size, topology, writeback, num_queues, discard, write_zeroes
_CONFIG = struct.Struct("<QIIHBBIBBHIBBHIIIIIB3x")


#: What follows an error of the host, by policy; BlockdevOnError.
POLICIES = ("report", "ignore", "enospc", "stop", "auto")


class Job(NamedTuple):
    """What a request is to do, so that it can be done again."""

    chain: Chain
    op: str
    offset: int
    size: int
    data: Sequence[bytes]
    unmap: bool
    start: int


class VirtioBlk(VirtioDevice):
    """A disk, on whatever transport."""

    ABSTRACT: ClassVar[bool] = True
    DEVICE_ID: ClassVar[int] = 2

    drive: BlockNode | None = link("block-node", "node-name of the disk's content")
    iothread: IoThread | None = link("iothread", "what does the host's I/O (default: the image's own thread)", optional=True)
    serial = config("str", "", "what the driver gets as the disk's id; at most 20 bytes count")
    logical_block_size = config(
        "uint32", 512, "the disk's block", unit="bytes", minimum=512, maximum=1 << 21, name="logical_block_size"
    )
    physical_block_size = config(
        "uint32", 512, "the disk's best block", unit="bytes", minimum=512, maximum=1 << 21, name="physical_block_size"
    )
    num_queues = config("uint16", 1, "number of queues", minimum=1, maximum=64)
    queue_size = config("uint16", 256, "entries of each queue; a power of two", minimum=2, maximum=1024)
    discard = config("bool", True, "offer VIRTIO_BLK_F_DISCARD")
    write_zeroes = config("bool", True, "offer VIRTIO_BLK_F_WRITE_ZEROES")
    bootindex = config("int32", -1, "place in firmware's boot order; -1: none (ours asks for none)", minimum=-1)
    rerror = config("str", "auto", "what follows an error of reading", values=POLICIES)
    werror = config("str", "auto", "what follows an error of writing", values=POLICIES)
    io_status: str = state("str", "ok", "the error that stopped the machine", values=("ok", "failed", "nospace"))
    io_errors = debug("uint64", 0, "requests that the host failed")

    def __init__(self, id: str) -> None:
        super().__init__(id)
        self._bytes_under_way = 0
        # Queues that wait for the budget.
        self._held: set[int] = set()
        # What failed and is done again when the machine goes on.
        self._failed: list[Job] = []
        self.account = Account()
        self.throttle: ThrottleGroup | None = None

    # -- life cycle

    def check_property(self, name: str, value: Any) -> None:
        super().check_property(name, value)
        if name in ("logical_block_size", "physical_block_size", "queue-size") and value & (value - 1):
            raise GenericError(f"Property '{self.TYPE}.{name}' must be a power of two, not {value}")

    def missing(self) -> list[str]:
        if not self.link_texts.get("drive"):
            raise GenericError("drive property not set")
        return super().missing()

    def wire(self) -> None:
        if self.logical_block_size > self.physical_block_size:
            self.physical_block_size = self.logical_block_size
        super().wire()

    def realize(self) -> None:
        """Takes the drive, which locks the image; GenericError."""
        super().realize()
        try:
            self._use_drive()
        except GenericError:
            if self.drive is not None:
                self.drive.release(self)
            raise
        self.machine.on_resume.append(self._go_on)

    def _use_drive(self) -> None:
        if self.drive is not None:
            text = f"block device '{self.path}' (uses node '{self.drive.id}' as 'root' child)"
            self.drive.use(self, User(text, not self.drive.read_only))
            if self.iothread is not None:
                self.drive.served_by(self.iothread)

    def _leave_drive(self) -> None:
        assert self.drive is not None
        if self.iothread is not None:
            # What is under way stays with that thread, and goes to the image's own when it ends.
            with suppress(GenericError):
                self.drive.served_by(None)
        self.drive.release(self)

    def unrealize(self) -> None:
        on_resume = self.machine.on_resume
        if self._go_on in on_resume:
            on_resume.remove(self._go_on)
        if self.drive is not None:
            self.machine.blocks.limit(self, None, Limits({}))
            self._leave_drive()
        super().unrealize()

    def queue_sizes(self) -> Sequence[int]:
        return [int(self.queue_size)] * int(self.num_queues)

    def offered(self) -> int:
        found = F_SEG_MAX | F_BLK_SIZE | F_FLUSH | F_TOPOLOGY
        if self.num_queues > 1:
            found |= F_MQ
        if self.drive is None or self.drive.read_only:
            return found | F_RO
        return found | (F_DISCARD if self.discard else 0) | (F_WRITE_ZEROES if self.write_zeroes else 0)

    def make_config(self) -> bytearray:
        size = 0 if self.drive is None else self.drive.length()
        block = self.logical_block_size
        exponent = (self.physical_block_size // block).bit_length() - 1
        return bytearray(
            _CONFIG.pack(
                size // SECTOR, 0, min(self.queue_size, 256) - 2 or 1, 0, 0, 0, block, exponent, 0, 1, 0, 1, 0,
                self.num_queues, SECTORS_MAX, 1, block // SECTOR, self._sectors_max(T_WRITE_ZEROES), 1, 1,
            )
        )  # fmt: skip

    def drive_resized(self) -> None:
        """The drive has another size: the driver is told."""
        self.config[:] = self.make_config()
        self.config_changed()

    def drive_replaced(self, other: BlockNode) -> None:
        """Another node stands in the drive's place: a copy of it."""
        self._leave_drive()
        self.drive = other
        self.link_texts["drive"] = other.id
        with suppress(GenericError):
            self._use_drive()

    def stopped(self) -> None:
        self._held.clear()
        failed, self._failed = self._failed, []
        self._bytes_under_way -= sum(under_way(job) for job in failed)
        if self.throttle is not None:
            self.throttle.drain(self)

    def set_throttle(self, group: ThrottleGroup | None) -> None:
        """The limits of another group, or none, hold from now on; what waited for the former goes."""
        old, self.throttle = self.throttle, group
        if old is not None and old is not group:
            old.drain(self)

    def reset(self) -> None:
        super().reset()
        self.io_status = "ok"

    # -- requests

    def handle(self, queue: Queue) -> None:
        if self._bytes_under_way > BUDGET:
            self._held.add(queue.index)
            return
        for chain in self.chains(queue):
            self._start(chain)
            if self._bytes_under_way > BUDGET:
                self._held.add(queue.index)
                break
        self.interrupt(queue)

    def _start(self, chain: Chain) -> None:
        assert self.dma is not None
        if chain.out_size < HEADER or not chain.in_size:
            raise QueueError("disk request without a header or a status byte")
        kind, _, sector = _HEADER.unpack(chain.read(self.dma, 0, HEADER))
        if kind == T_IN:
            self._transfer(chain, sector, chain.in_size - 1, "read")
        elif kind == T_OUT:
            self._transfer(chain, sector, chain.out_size - HEADER, "write")
        elif kind == T_FLUSH:
            self._submit(chain, "flush", 0, 0)
        elif kind in (T_DISCARD, T_WRITE_ZEROES):
            self._range(chain, kind)
        elif kind == T_GET_ID:
            data = self.serial.encode("utf-8", "replace")[:ID_BYTES].ljust(ID_BYTES, b"\0")
            self._end(chain, OK, data[: chain.in_size - 1])
        else:
            self._end(chain, UNSUPP)

    def _transfer(self, chain: Chain, sector: int, size: int, op: str) -> None:
        assert self.dma is not None
        if size % SECTOR or size > BUDGET or not self._inside(sector, size) or (op == "write" and self._refuses()):
            self._invalid(chain, op)
        elif op == "read":
            self._submit(chain, op, sector * SECTOR, size)
        else:
            data = [self.dma.read(addr, count) for addr, count in chain.pieces(HEADER, size)]
            self._submit(chain, op, sector * SECTOR, size, data)

    def _range(self, chain: Chain, kind: int) -> None:
        assert self.dma is not None
        offered = F_DISCARD if kind == T_DISCARD else F_WRITE_ZEROES
        if not self.driver_features & offered:
            self._end(chain, UNSUPP)
            return
        if chain.out_size != HEADER + _RANGE.size:
            # One range is what the configuration allows.
            self._end(chain, IOERR)
            return
        op = "discard" if kind == T_DISCARD else "write-zeroes"
        sector, count, flags = _RANGE.unpack(chain.read(self.dma, HEADER, _RANGE.size))
        if flags & ~UNMAP or (kind == T_DISCARD and flags):
            self._end(chain, UNSUPP)
        elif not self._inside(sector, count * SECTOR) or self._refuses() or count > self._sectors_max(kind):
            self._invalid(chain, op)
        else:
            self._submit(chain, op, sector * SECTOR, count * SECTOR, unmap=bool(flags))

    def _invalid(self, chain: Chain, op: str) -> None:
        """It can't be, whatever the host says."""
        self.account.invalid(KIND_OF[op])
        self._end(chain, IOERR)

    @staticmethod
    def _sectors_max(kind: int) -> int:
        """The most that one range may have, as the configuration says."""
        return SECTORS_MAX if kind == T_DISCARD else BUDGET // SECTOR

    def _inside(self, sector: int, size: int) -> bool:
        return self.drive is not None and sector * SECTOR + size <= self.drive.length()

    def _refuses(self) -> bool:
        return self.drive is None or self.drive.read_only

    def _submit(
        self, chain: Chain, op: str, offset: int, size: int, data: Sequence[bytes] = (), unmap: bool = False
    ) -> None:
        if self.drive is None:
            self._end(chain, IOERR)
            return
        job = Job(chain, op, offset, size, data, unmap, self.account.now())
        self._bytes_under_way += under_way(job)
        self._begin(job)

    def _begin(self, job: Job) -> None:
        if self.throttle is None or job.op in ("flush", "discard"):
            self._pass_on(job)
        else:
            self.throttle.submit(self, job.op != "read", job.size, partial(self._pass_on, job))

    def _pass_on(self, job: Job) -> None:
        assert self.drive is not None
        sync = job.op not in ("read", "flush") and not self.driver_features & F_FLUSH
        self.drive.submit(Request(job.op, job.offset, job.size, self._done, job.data, sync, job.unmap, job))

    def _done(self, request: Request) -> None:
        """The node has done it; on the owner thread."""
        job: Job = request.tag  # type: ignore[assignment]  # what _begin gave
        live = job.chain.epoch == job.chain.queue.epoch and self.running
        if live and request.error and self._stops(job, request):
            return
        self._bytes_under_way -= under_way(job)
        if live:
            self.guarded(lambda: self._finish(job, request))
        if self._held and self._bytes_under_way <= BUDGET:
            held, self._held = self._held, set()
            for index in sorted(held):
                self.notify(index)

    def _action(self, op: str, error: int) -> str:
        """BlockErrorAction that the policy chooses."""
        read = op == "read"
        policy = self.rerror if read else self.werror
        if policy == "auto":
            policy = "report" if read else "enospc"
        if policy == "enospc":
            policy = "stop" if error == errno.ENOSPC else "report"
        return str(policy)

    def _stops(self, job: Job, request: Request) -> bool:
        """Whether this error stops the machine; the request is kept then."""
        if self._action(job.op, request.error) != "stop":
            return False
        self._failed.append(job)
        self.io_status = "nospace" if request.error == errno.ENOSPC else "failed"
        self._tell_error(job, request.error, "stop")
        self.machine.request_stop("io-error")
        return True

    def _go_on(self) -> None:
        """The machine goes on, and so does what failed."""
        self.io_status = "ok"
        failed, self._failed = self._failed, []
        for job in failed:
            self._begin(job)

    def _finish(self, job: Job, request: Request) -> None:
        chain = job.chain
        action = self._action(job.op, request.error) if request.error else ""
        if action:
            self._tell_error(job, request.error, action)
        if action == "report":
            self.account.failed(KIND_OF[job.op], job.start)
            self._end(chain, IOERR)
        else:
            self.account.done(KIND_OF[job.op], job.size, job.start)
            self._end(chain, OK, request.data[0] if job.op == "read" and not action else b"")
        self.interrupt(chain.queue)

    def _end(self, chain: Chain, status: int, data: bytes | bytearray = b"") -> None:
        """Data, then the status in the last byte; `written` counts the bytes up to what was written without a gap."""
        assert self.dma is not None
        if data:
            chain.write(self.dma, 0, data)
        last = chain.in_size - 1
        addr, count = chain.inp[-1]
        if count == 1:
            self.dma.write(addr, _STATUS[status])
        else:
            chain.write(self.dma, last, _STATUS[status])
        chain.queue.push(chain, last + 1 if len(data) == last else len(data))

    def _tell_error(self, job: Job, error: int, action: str) -> None:
        self.io_errors += 1
        assert self.drive is not None
        data: dict[str, Any] = {
            "qom-path": self.path, "device": self.drive.drive, "node-name": self.drive.id, "action": action,
            "operation": "read" if job.op == "read" else "write", "reason": os.strerror(error),
            "nospace": error == errno.ENOSPC,
        }  # fmt: skip
        self.machine.emit("BLOCK_IO_ERROR", **data)


def under_way(job: Job) -> int:
    """Bytes that a request holds in memory."""
    return job.size if job.op in ("read", "write") else 0


class VirtioBlkDevice(OnVirtioBus, VirtioBlk):
    """Disk.  Virtio 1.2, section 5.2."""

    TYPE: ClassVar[str] = "virtio-blk-device"
