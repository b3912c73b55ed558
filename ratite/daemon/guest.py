"""Looking into a machine: CPUs by their number, guest memory.  On the owner's side only.

A CPU's number stays as long as the CPU does (Machine.cpus).
"""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from typing import TYPE_CHECKING

from ratite.core.cpu.virtual import VirtualMemory
from ratite.core.memory.access import BusError
from ratite.daemon.dispatch import refuse_nul
from ratite.qapi.errors import GenericError

if TYPE_CHECKING:
    from ratite.core.cpu.base import Cpu
    from ratite.core.hostfiles import HostFiles
    from ratite.core.machine import Machine
    from ratite.core.memory.space import Space

CHUNK = 1 << 20


def cpu_at(machine: Machine, index: int | None) -> Cpu:
    """The CPU with this number, the first if none is given; GenericError in QEMU's words."""
    cpus = machine.cpus()
    if index is None:
        index = min(cpus, default=0)
    if index not in cpus:
        raise GenericError("Parameter 'cpu-index' expects a CPU number")
    return cpus[index]


def first_space(machine: Machine, path: str | None = None) -> Space:
    """The address space at `path`, else the first CPU's, else the machine's only one; GenericError."""
    if path is not None:
        return machine.resolve_link(path, "address-space")  # type: ignore[return-value]
    for cpu in machine.cpus().values():
        space: Space = cpu.cluster.space
        return space
    spaces = [obj for obj in machine.tree.members() if obj.is_a("address-space")]
    if len(spaces) != 1:
        raise GenericError(f"the machine has no CPU and {len(spaces)} address spaces: give one's path as 'space'")
    return spaces[0]  # type: ignore[return-value]


def save(space: Space | VirtualMemory, address: int, size: int, filename: str, files: HostFiles) -> None:
    """Write guest memory to a regular file; GenericError in QEMU's words, and then no file was made or changed.

    Only what changes while it is read (a device that refuses an access) can spoil a file that was there.
    """
    refuse_nul({"filename": filename})
    _check_covered(space, address, size)
    made = not _exists(filename, files)
    try:
        with os.fdopen(_open_regular(filename, files), "wb") as file:
            for at in range(address, address + size, CHUNK):
                file.write(space.read(at, min(CHUNK, address + size - at)))
    except (BusError, OSError) as error:
        if made:
            with suppress(OSError):
                files.unlink(filename)
        if isinstance(error, BusError):
            raise _invalid(address, size) from None
        raise GenericError(f"Could not open '{filename}': {error.strerror}") from None


def write_file(filename: str, data: bytes, what: str, files: HostFiles) -> None:
    """Write `data` to a regular file; GenericError that says what it was."""
    refuse_nul({"filename": filename})
    try:
        with os.fdopen(_open_regular(filename, files), "wb") as file:
            file.write(data)
    except OSError as error:
        raise GenericError(f"Error saving {what} to file {filename}: {error.strerror}") from None


def _check_covered(space: Space | VirtualMemory, address: int, size: int) -> None:
    if isinstance(space, VirtualMemory):
        # Up to the first that isn't there: nobody waits for the pages of 2 to the 64 bytes.
        try:
            covered = all(_covered(space.space, at, count) for at, count in space.pieces(address, size))
        except BusError:
            covered = False
        if not covered:
            raise _invalid(address, size)
    elif not _covered(space, address, size):
        raise _invalid(address, size)


def _covered(space: Space, address: int, size: int) -> bool:
    at, end = address, address + size
    while at < end:
        found = space.view.find(at)
        if found is None:
            return False
        at = found.end
    return True


def _invalid(address: int, size: int) -> GenericError:
    return GenericError(f"Invalid addr {address:#018x}/size {size} specified")


def _exists(filename: str, files: HostFiles) -> bool:
    try:
        files.stat(filename)
    except OSError:
        return False
    return True


def _open_regular(filename: str, files: HostFiles) -> int:
    """A descriptor of a regular file.  The owner thread comes here: opening a FIFO could keep it for ever."""
    with suppress(FileNotFoundError):
        _need_regular(files.stat(filename), filename)
    # The file may be another by now: truncated only when it is known what was opened.
    flags = os.O_WRONLY | os.O_CREAT | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0)
    fd = files.open(filename, flags)
    try:
        _need_regular(os.fstat(fd), filename)
        os.ftruncate(fd, 0)
    except BaseException:
        os.close(fd)
        raise
    return fd


def _need_regular(facts: os.stat_result, filename: str) -> None:
    if not stat.S_ISREG(facts.st_mode):
        raise GenericError(f"Could not open '{filename}': it must be a regular file")


def register(cpu: Cpu, name: str) -> int | None:
    """The value of a CPU's register, None if it has none of this name."""
    if name not in cpu.instance_properties:
        return None
    with cpu.machine.quiesced():
        value: int = cpu.get_property(name)
    return value


def virtual_memory(cpu: Cpu) -> VirtualMemory:
    """Memory as the CPU's virtual addresses show it now."""
    with cpu.machine.quiesced():
        return VirtualMemory(cpu)
