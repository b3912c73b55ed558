"""A disk and a driver for it."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

from virtio_kit import Board, new_machine

F_RO, F_FLUSH, F_DISCARD, F_WRITE_ZEROES = 1 << 5, 1 << 9, 1 << 13, 1 << 14
IN, OUT, FLUSH, GET_ID, DISCARD, ZEROES = 0, 1, 4, 8, 11, 13


class Disk(Board):
    """A virtio-blk-device on a file node "n0"."""

    def __init__(self, path: Path, inline: bool = True, options: dict[str, Any] | None = None, **props: Any) -> None:
        machine = new_machine(inline)
        add = {"driver": "file", "filename": str(path), "node-name": "n0", **(options or {})}
        machine.owner.call(machine.blockdev_add, add)
        super().__init__("virtio-blk-device", machine=machine, drive="n0", **props)

    def submit(self, kind: int, sector: int, out: bytes = b"", size: int = 0, queue: int = 0) -> tuple[int, int, int]:
        """Offers a request; gives its head and the addresses of its data and status."""
        ring = self.queues[queue]
        head = self.alloc(16)
        self.write(head, struct.pack("<IIQ", kind, 0, sector))
        data, status = self.alloc(max(len(out), size, 1)), self.alloc(1, 1)
        self.write(status, b"\xff")
        parts = [(head, 16, False)]
        if out:
            self.write(data, out)
            parts.append((data, len(out), False))
        if size:
            parts.append((data, size, True))
        return ring.send(*parts, (status, 1, True)), data, status

    def wait(self, queue: int = 0) -> list[tuple[int, int]]:
        """Until something is used."""
        while not (found := self.queues[queue].taken()):
            pass
        return found

    def do(self, kind: int, sector: int, out: bytes = b"", size: int = 0) -> tuple[int, bytes]:
        """One request: its status and what was read."""
        self.top, ring = self.floor, self.queues[0]
        ring.free = list(range(ring.num))
        _, data, status = self.submit(kind, sector, out, size)
        self.wait()
        return self.read(status, 1)[0], self.read(data, size)

    def ready(self, **up: Any) -> Disk:
        self.start()
        self.up(**up)
        self.floor = self.top
        return self
