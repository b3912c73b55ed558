"""Looking into a machine: CPUs by their number, guest memory.  On the owner's side only.

The CPUs are numbered by their paths' order of appearance; numbers stay as long as the CPU does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ratite.core.memory.access import BusError
from ratite.qapi.errors import GenericError

if TYPE_CHECKING:
    from collections.abc import Callable

    from ratite.core.cpu.base import Cpu
    from ratite.core.machine import Machine
    from ratite.core.memory.space import Space

    Reader = Callable[[int, int], bytes]

CHUNK = 1 << 20


def cpu_at(machine: Machine, index: int | None) -> Cpu:
    """The CPU with this number, the first if none is given; GenericError in QEMU's words."""
    cpus = machine.cpus()
    if index is None:
        index = 0
    if not 0 <= index < len(cpus):
        raise GenericError("Parameter 'cpu-index' expects a CPU number")
    return cpus[index]


def first_space(machine: Machine, path: str | None = None) -> Space:
    """The address space at `path`, else the first CPU's, else the machine's only one; GenericError."""
    if path is not None:
        return machine.resolve_link(path, "address-space")  # type: ignore[return-value]
    for cpu in machine.cpus():
        space: Space = cpu.cluster.space
        return space
    spaces = [obj for obj in machine.tree.members() if obj.is_a("address-space")]
    if len(spaces) != 1:
        raise GenericError(f"the machine has no CPU and {len(spaces)} address spaces: give one's path as 'space'")
    return spaces[0]  # type: ignore[return-value]


def save(read: Reader, address: int, size: int, filename: str) -> None:
    """Write guest memory to a file; GenericError in QEMU's words."""
    try:
        with open(filename, "wb") as file:
            at, end = address, address + size
            while at < end:
                count = min(CHUNK, end - at)
                try:
                    file.write(read(at, count))
                except BusError:
                    raise GenericError(f"Invalid addr {address:#018x}/size {size} specified") from None
                at += count
    except OSError as error:
        raise GenericError(f"Could not open '{filename}': {error.strerror}") from None


def register(cpu: Cpu, name: str) -> int | None:
    """The value of a CPU's register, None if it has none of this name."""
    if name not in cpu.instance_properties:
        return None
    with cpu.machine.quiesced():
        value: int = cpu.get_property(name)
    return value


def virtual_reader(cpu: Cpu) -> Reader:
    """Reads memory as the CPU's virtual addresses show it."""
    # Every CPU of this version runs without translation.
    read: Reader = cpu.cluster.space.read
    return read
