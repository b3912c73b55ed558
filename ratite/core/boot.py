"""Booting a guest: firmware, kernel, initial ramdisk, command line and device tree of one CPU, placed and loaded.

    RAM from its start on                                                   up to WITHIN bytes from its start
    ┌──────────┬───────────────────────────┬─ … ─┬────────┬─────────────┬───────┐
    │ firmware │ kernel, as far as it says │     │ initrd │ device tree │ args  │
    └──────────┴───────────────────────────┴─ … ─┴────────┴─────────────┴───────┘

The RAM is that of an ELF kernel's (or firmware's) first piece, else where the CPU starts, else the largest of the view.
What is a kernel besides an ELF file, where it wants to be and what is in the registers when it is entered says the CPU's type:

    boot_kernel(path, file)   a raw kernel's head → RawKernel; GenericError when it isn't one
    boot_args(boot)           bytes that go behind the device tree (a command line, firmware's parameters)
    boot_registers(boot)      (field, index) → value at the entry

A plan is made when the CPU is realized: everything is read, checked and placed then, and nothing written.  Every reset of the
machine writes it, with the device tree made anew.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple

from ratite.core import loader
from ratite.core.fdt import DeviceTree, Node, flatten, parse, size_of
from ratite.core.fdt.tree import group_of
from ratite.core.loader import Image, Segment
from ratite.qapi.errors import GenericError
from ratite.qapi.fdt import cells

if TYPE_CHECKING:
    from ratite.core.cpu.base import Cpu
    from ratite.core.memory.flat import FlatView
    from ratite.core.memory.space import Space

PAGE = 4096
RAM_MIN = 1 << 20
WITHIN = 512 << 20  # ramdisk and device tree lie this near to the start of RAM: 32-bit kernels see no more at first
TREE_SLACK = 64 << 10  # room for what firmware adds to the tree, and for devices that are plugged before a reset
ARGS_MAX = PAGE
SEED = 32
HEAD = 4096  # bytes of a raw kernel that boot_kernel is given


class RawKernel(NamedTuple):
    """What a raw kernel's head says, in bytes: distance from the start of RAM, alignment, memory that it takes for itself."""

    offset: int
    align: int
    size: int


class Ram(NamedTuple):
    """A run of RAM in the view."""

    start: int
    end: int


class Boot:
    """The plan for one CPU; see the module's head.  Addresses are 0 where there is no such part."""

    def __init__(self, cpu: Cpu) -> None:
        self.cpu = cpu
        self._files = cpu.machine.files
        self.images: list[Image] = []
        self.entry = self.firmware_entry = self.kernel_entry = 0
        self.initrd_start = self.initrd_end = 0
        self.tree_at = self.args_at = 0
        self._tree_room = 0
        self._given: tuple[Node, list[tuple[int, int]]] | None = None
        self._plan()

    # -- planning

    def _plan(self) -> None:
        cpu = self.cpu
        for name in ("initrd", "append", "dtb"):
            if getattr(cpu, name) and not (cpu.kernel or cpu.firmware):
                raise GenericError(f"Property '{cpu.TYPE}.{name}' needs 'kernel' or 'firmware'")
        if cpu.dtb:
            self._given = parse(cpu.dtb, loader.read_file(cpu.dtb, self._files))
        kernel = self._elf(cpu.kernel) if cpu.kernel and loader.is_elf(cpu.kernel, self._files) else None
        firmware = self._elf(cpu.firmware) if cpu.firmware and loader.is_elf(cpu.firmware, self._files) else None
        self.ram = ram = self._find_ram(kernel, firmware)
        low = ram.start
        if cpu.firmware:
            firmware = self._moved(firmware, ram) if firmware else loader.read_raw(cpu.firmware, ram.start, self._files)
            self._add("firmware", firmware)
            self.entry = self.firmware_entry = firmware.entry
            low = max([low, *(piece.end for piece in firmware.segments if piece.paddr < ram.end)])
        if cpu.kernel:
            kernel = kernel or self._raw_kernel(low)
            self._add("kernel", kernel)
            self.kernel_entry = kernel.entry_paddr
            self.entry = self.entry if cpu.firmware else self.kernel_entry
            low = max([low, *(piece.end for piece in kernel.segments if piece.paddr < ram.end)])
        self._place(low)

    def _place(self, low: int) -> None:
        """Device tree, args and ramdisk, from the top down; `low` is where what was placed so far ends."""
        ram, cpu = self.ram, self.cpu
        top = min(ram.end, ram.start + WITHIN) & -PAGE
        args = -(-ARGS_MAX // PAGE) * PAGE
        # Made with the addresses that it will have, and again at each reset: its length doesn't depend on them.
        self.tree_at, size = ram.start, size_of(*self._nodes())
        self._tree_room = -(-(size + TREE_SLACK) // PAGE) * PAGE
        self.args_at = top - args
        self.tree_at = self.args_at - self._tree_room
        if self.tree_at < low:
            raise GenericError(
                f"no room for the device tree: {self._tree_room + args:#x} bytes must end at or below {top:#x}, "
                f"RAM is taken up to {low:#x}"
            )
        if len(cpu.boot_args(self)) > ARGS_MAX:
            raise GenericError(f"Property '{cpu.TYPE}.append' must be shorter than {ARGS_MAX} bytes")
        if cpu.initrd:
            image = loader.read_raw(cpu.initrd, 0, self._files)
            size = image.segments[0].memsz
            self.initrd_start = self.tree_at - size & -PAGE
            self.initrd_end = self.initrd_start + size
            if self.initrd_start < low:
                raise GenericError(
                    f"Could not load image '{cpu.initrd}': its {size:#x} bytes must end at or below {self.tree_at:#x}, "
                    f"RAM is taken up to {low:#x}"
                )
            image.move(self.initrd_start)
            self._add("initrd", image)

    def _elf(self, path: str) -> Image:
        cluster = self.cpu.cluster
        return loader.read_elf(path, self.cpu.ELF_MACHINE, cluster.bits, cluster.big_endian, self._files)

    def _moved(self, image: Image, ram: Ram) -> Image:
        """Position independent firmware that isn't linked to a place in RAM goes to the start of it."""
        lowest = min(segment.paddr for segment in image.segments)
        found = self.view.find(lowest)
        if image.relocatable and (found is None or not found.region.IS_RAM):
            image.move(ram.start - lowest)
        return image

    def _raw_kernel(self, low: int) -> Image:
        """`low`: where the firmware ends."""
        cpu = self.cpu
        with loader.opened(cpu.kernel, self._files) as file:
            size = os.fstat(file.fileno()).st_size
            head = file.read(HEAD)
        kernel = cpu.boot_kernel(cpu.kernel, head, size)
        at = max(self.ram.start + kernel.offset, -(-low // kernel.align) * kernel.align)
        image = loader.read_raw(cpu.kernel, at, self._files)
        image.segments[0].name = "the kernel"
        image.segments[0].memsz = max(kernel.size, size)
        return image

    def _find_ram(self, *images: Image | None) -> Ram:
        runs = list(self._runs())
        wanted = [segment.paddr for image in images if image is not None for segment in image.segments[:1]]
        for at in (*wanted, self.cpu.RESET_PC):
            for run in runs:
                if run.start <= at < run.end and (at in wanted or run.end - run.start >= RAM_MIN):
                    return run
        if not runs:
            raise GenericError(f"'{self.cpu.path}' has no RAM to boot from")
        return max(runs, key=lambda run: (run.end - run.start, -run.start))

    def _runs(self) -> list[Ram]:
        runs: list[Ram] = []
        for piece in self.view.ranges:
            if not piece.region.IS_RAM or piece.readonly:
                continue
            if runs and runs[-1].end == piece.start:
                runs[-1] = Ram(runs[-1].start, piece.end)
            else:
                runs.append(Ram(piece.start, piece.end))
        return runs

    @property
    def view(self) -> FlatView:
        """What the CPU sees."""
        space: Space = self.cpu.cluster.space
        return space.view

    def _add(self, what: str, image: Image) -> None:
        image.what = what
        self.images.append(image)

    def pieces(self) -> list[tuple[str, str, int, int]]:
        """(what, path, start, end) of what is made here and isn't an image."""
        tree_end = self.tree_at + self._tree_room
        return [
            ("device tree", self.cpu.dtb, self.tree_at, tree_end),
            ("boot arguments", "", self.args_at, self.args_at + ARGS_MAX),
        ]

    # -- the device tree

    def tree(self) -> bytes:
        """The device tree as it is now, flattened."""
        return flatten(*self._nodes())

    def _nodes(self) -> tuple[Node, list[tuple[int, int]]]:
        if self._given is not None:
            root, reserved = self._given
        else:
            root, reserved = DeviceTree(self.cpu.machine, group_of(self.cpu)).build(), []
        chosen = root.child("chosen")
        if self.cpu.append or "bootargs" not in chosen:
            chosen["bootargs"] = self.cpu.append
        if self.cpu.initrd:
            for name, value in ("linux,initrd-start", self.initrd_start), ("linux,initrd-end", self.initrd_end):
                chosen[name] = cells(value, 2)
        if self._given is None:
            chosen["rng-seed"] = os.urandom(SEED)
        return root, reserved

    # -- at a reset

    def write(self) -> None:
        """Device tree and arguments into memory; the images are written with the CPU's others."""
        space, tree = self.cpu.cluster.space, self.tree()
        if len(tree) > self._tree_room:
            raise GenericError(f"the device tree has grown to {len(tree):#x} bytes, there is room for {self._tree_room:#x}")
        space.write(self.tree_at, tree + bytes(self._tree_room - len(tree)))
        args = self.cpu.boot_args(self)
        space.write(self.args_at, args + bytes(ARGS_MAX - len(args)))


def check_overlaps(cpu: Cpu, images: list[Image], boot: Boot | None) -> None:
    """GenericError when two things that are loaded, for this CPU or another, would lie in the same bytes of RAM.

    The same file at the same place for several CPUs is one thing.
    """
    taken: list[tuple[object, int, int, str, object]] = []
    for other in cpu.machine.tree.members():
        if other.KIND == "cpu" and other is not cpu and other.phase == "realized":
            neighbour: Cpu = other  # type: ignore[assignment]  # what KIND "cpu" means
            taken += _in_ram(neighbour, *neighbour.loaded())
    for piece in _in_ram(cpu, images, boot):
        for other_piece in taken:
            same = piece[4] == other_piece[4]
            if piece[0] is other_piece[0] and piece[1] < other_piece[2] and other_piece[1] < piece[2] and not same:
                raise GenericError(f"{piece[3]} and {other_piece[3]} overlap")
        taken.append(piece)


def _in_ram(cpu: Cpu, images: list[Image], boot: Boot | None) -> list[tuple[object, int, int, str, object]]:
    """(RAM, start and end in it, name for people, what makes two the same thing) of every piece of everything."""
    pieces = [
        (image.what, image.path, segment.paddr, segment.end) for image in images for segment in image.segments
    ]
    pieces += boot.pieces() if boot is not None else []
    found: list[tuple[object, int, int, str, object]] = []
    for number, (what, path, start, end) in enumerate(pieces):
        name = f"{what} {f'{path!r} ' if path else ''}at {start:#x}-{end - 1:#x} ('{cpu.path}')"
        same = (path, start, end) if path else (cpu, number)
        at = start
        while at < end:
            piece = cpu.cluster.space.view.find(at)
            if piece is None:
                break
            offset = piece.offset + at - piece.start
            stop = min(end, piece.end)
            found.append((piece.region, offset, offset + stop - at, name, same))
            at = stop
    return found


__all__ = ("Boot", "RawKernel", "Segment", "check_overlaps")
