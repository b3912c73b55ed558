"""Dumps of guest memory for debuggers: core files (ELF, System V gABI; notes as the Linux ABI of each architecture has them).

    dump-guest-memory ──> the machine stops ──> a thread writes ──> the machine goes on, DUMP_COMPLETED

A core file has one architecture: that of the machine's primary target.  Its CPUs' registers are notes, its first CPU's view of
memory the content.  The thread takes the machine's lock for each piece that it reads, and never while it writes.
"""

from __future__ import annotations

import os
import select
import struct
import sys
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ratite.core.memory.access import BusError
from ratite.qapi.errors import GenericError

if TYPE_CHECKING:
    from ratite.core.cpu.base import Cpu
    from ratite.core.machine import Machine
    from ratite.core.memory.space import Space

PIECE = 1 << 20
_PHDRS_MAX = 0xFFFE
_ET_CORE, _PT_LOAD, _PT_NOTE, _NT_PRSTATUS = 4, 1, 4, 1
_WAIT = 0.2  # seconds between looks whether the dump is still wanted

Ranges = Sequence[tuple[int, int]]


def ram_ranges(space: Space, begin: int | None = None, length: int = 0) -> list[tuple[int, int]]:
    """(address, bytes) of the memory that a space shows, pieces side by side as one; of [begin, begin + length) if given."""
    low, high = (0, 1 << 65) if begin is None else (begin, begin + length)
    found: list[tuple[int, int]] = []
    for start, size, *_ in space.view.ram_table():
        first, last = max(start, low), min(start + size, high)
        if first >= last:
            continue
        if found and sum(found[-1]) == first:
            found[-1] = (found[-1][0], last - found[-1][0])
        else:
            found.append((first, last - first))
    return found


def head(cpus: Sequence[tuple[int, Cpu]], ranges: Ranges) -> bytes:
    """Everything before the memory: ELF header, program headers, a note for each (number, CPU).  No CPU may run."""
    cluster = cpus[0][1].cluster
    wide, order = cluster.bits == 64, ">" if cluster.big_endian else "<"
    notes = b"".join(_note(number, cpu, wide, order) for number, cpu in cpus)
    ident = b"\x7fELF" + bytes((2 if wide else 1, 2 if order == ">" else 1, 1)) + bytes(9)
    ehsize, phentsize = (64, 56) if wide else (52, 32)
    words = (_ET_CORE, cpus[0][1].ELF_MACHINE, 1, 0, ehsize, 0, 0, ehsize, phentsize, 1 + len(ranges), 0, 0, 0)
    made = ident + struct.pack(order + ("HHIQQQIHHHHHH" if wide else "HHIIIIIHHHHHH"), *words)
    offset = ehsize + phentsize * (1 + len(ranges))
    rows = [(_PT_NOTE, offset, 0, len(notes))]
    offset += len(notes)
    for address, size in ranges:
        rows.append((_PT_LOAD, offset, address, size))
        offset += size
    for kind, at, address, size in rows:
        if wide:
            made += struct.pack(order + "IIQQQQQQ", kind, 0, at, address, address, size, size, 0)
        else:
            made += struct.pack(order + "IIIIIIII", kind, at, address, address, size, size, 0, 0)
    return made + notes


def _note(number: int, cpu: Cpu, wide: bool, order: str) -> bytes:
    """NT_PRSTATUS of a CPU: its number as process id, its registers, and no word on floating point."""
    values = [cpu.get_property(name) if name else 0 for name in cpu.CORE_REGISTERS]
    before, at = (112, 32) if wide else (72, 24)
    status = bytearray(before)
    struct.pack_into(order + "I", status, at, number + 1)
    status += struct.pack(f"{order}{len(values)}{'Q' if wide else 'I'}", *values) + bytes(8 if wide else 4)
    return struct.pack(order + "III", 5, len(status), _NT_PRSTATUS) + b"CORE\0\0\0\0" + bytes(status)


class Dumper:
    """The dumps of a machine, one at a time.  On the owner's side but for what says otherwise."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._status = "none"
        self._completed = self._total = 0
        self._error = ""
        self._cancelled = False
        self._over = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def active(self) -> bool:
        """Whether one is under way.  Any thread."""
        return self._status == "active"

    def info(self) -> dict[str, Any]:
        """DumpQueryResult.  Any thread."""
        return {"status": self._status, "completed": self._completed, "total": self._total}

    def check(self) -> None:
        """GenericError while one is under way."""
        if self.active:
            raise GenericError("There is a dump in process, please wait.")

    def start(self, fd: int, begin: int | None = None, length: int = 0) -> None:
        """Dumps to `fd`, which is the dumper's unless this raises GenericError."""
        self.check()
        cpus = self._cpus()
        space: Space = cpus[0][1].cluster.space
        ranges = ram_ranges(space, begin, length)
        if not ranges:
            raise GenericError("dump: no guest memory to dump")
        if len(ranges) > _PHDRS_MAX:
            raise GenericError(f"dump: the memory has {len(ranges)} pieces, a core file {_PHDRS_MAX} at most")
        was_running = self._machine.running
        self._machine.stop()
        with self._machine.quiesced():
            first = head(cpus, ranges)
        self._status, self._completed, self._total = "active", 0, sum(size for _, size in ranges)
        self._error, self._cancelled = "", False
        self._over = threading.Event()
        work = (fd, first, space, ranges, was_running)
        self._thread = threading.Thread(target=self._run, args=work, name="ratite-dump", daemon=True)
        self._thread.start()

    def wait(self) -> None:
        """Until the dump is over; GenericError if it failed.  Any thread but the owner's."""
        self._over.wait()
        if self.active:
            raise GenericError("dump: the machine is going away")
        if self._error:
            raise GenericError(self._error)

    def close(self) -> None:
        """The machine goes: nothing of it is read any more.  Under the machine's lock."""
        self._cancelled = True
        self._over.set()

    def _cpus(self) -> list[tuple[int, Cpu]]:
        """(number, CPU) of those that a core file can show."""
        found = list(self._machine.cpus().items())
        if not found:
            raise GenericError("dump: no guest memory to dump")
        primary = str(self._machine.tree.node.get_property("primary-target")) or found[0][1].cluster.target
        found = [each for each in found if each[1].cluster.target == primary and each[1].CORE_REGISTERS]
        if not found:
            raise GenericError(f"dump: there is no core file of target '{primary}'")
        return found

    def _run(self, fd: int, first: bytes, space: Space, ranges: Ranges, was_running: bool) -> None:
        try:
            self._write(fd, first)
            for start, size in ranges:
                for at in range(start, start + size, PIECE):
                    self._write(fd, self._read(space, at, min(PIECE, start + size - at)))
        except (OSError, BusError, GenericError) as error:
            reason = error.strerror if isinstance(error, OSError) else str(error)
            self._error = f"dump: failed to save memory: {reason}"
        finally:
            os.close(fd)
        self._machine.owner.soon(lambda: self._ended(was_running))

    def _read(self, space: Space, at: int, size: int) -> bytes:
        with self._machine.lock:
            if self._cancelled:
                raise GenericError("the machine is going away")
            data = space.read(at, size)
        self._completed += size
        return data

    def _write(self, fd: int, data: bytes) -> None:
        """All of `data`, waiting for a pipe's reader as long as the dump is wanted."""
        view = memoryview(data)
        while view:
            if self._cancelled:
                raise GenericError("the machine is going away")
            try:
                view = view[os.write(fd, view) :]
            except BlockingIOError:
                if sys.platform != "win32":
                    poller = select.poll()
                    poller.register(fd, select.POLLOUT)
                    poller.poll(_WAIT * 1000)

    def _ended(self, was_running: bool) -> None:
        if self._cancelled:
            return
        self._status = "failed" if self._error else "completed"
        self._machine.emit("DUMP_COMPLETED", result=self.info(), **({"error": self._error} if self._error else {}))
        if was_running and self._machine.status == "paused":
            self._machine.cont()
        self._over.set()
