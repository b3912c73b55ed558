"""Linux's RISC-V kernel images, and what OpenSBI's dynamic firmware is told.

The head of an Image (Linux, Documentation/arch/riscv/boot-image-header.rst), little-endian:

    0x08  text_offset    from the start of RAM, 8 bytes      0x20  version
    0x10  image_size     with what the kernel clears, 8      0x30  "RISCV\\0\\0\\0"
    0x18  flags          bit 0: big-endian                   0x38  "RSC\\x05"

A file that is neither this nor known to be something else is a program for the start of RAM, or for behind the firmware.

An Image with an EFI stub is a PE file as well ("MZ"), whose section table tells whether the file is whole.
"""

from __future__ import annotations

import struct
from types import MappingProxyType

from ratite.core.boot import RawKernel
from ratite.core.loader import bad_image

HEAD = 64
_MAGIC = b"RSC\x05"
_PACKED = ((b"\x1f\x8b", "gzip"), (b"\xfd7zXZ", "xz"), (b"\x28\xb5\x2f\xfd", "zstd"), (b"BZh", "bzip2"), (b"\x02!L\x18", "lz4"))
# Where kernels of one size of huge pages want to be, if their head doesn't say it.
_HUGE = MappingProxyType({64: 2 << 20, 32: 4 << 20})
_FW_DYNAMIC_MAGIC, _FW_DYNAMIC_VERSION, _MODE_S = 0x4942534F, 2, 1


def read_head(path: str, head: bytes, size: int, bits: int) -> RawKernel:
    """What the Image in the file `path` says: its first bytes are `head`, it has `size`; GenericError when it is none."""
    for magic, name in _PACKED:
        if head.startswith(magic):
            raise bad_image(path, f"it is packed by {name}: unpack it")
    if head[:2] == b"MZ" and head[4:8] == b"zimg":
        raise bad_image(path, "it is a packed EFI image (zboot): unpack it")
    huge = _HUGE[bits]
    if head[0x38:0x3C] != _MAGIC:
        if head[:2] == b"MZ":
            raise bad_image(path, "neither an ELF file nor a RISC-V Image (no magic 'RSC\\x05' at byte 0x38)")
        return RawKernel(0, huge, size)
    if len(head) < HEAD:
        raise bad_image(path, f"{len(head)} bytes are less than an Image's head")
    offset, memory, flags = struct.unpack_from("<3Q", head, 8)
    if flags & 1:
        raise bad_image(path, "it is a big-endian Image, the CPU is little-endian")
    _check_whole(path, head, size)
    if offset % 4096 or memory >= 1 << 40:
        raise bad_image(path, f"its head is damaged: text_offset {offset:#x}, image_size {memory:#x}")
    return RawKernel(offset or huge, huge, memory)


def _check_whole(path: str, head: bytes, size: int) -> None:
    """The sections that its PE head lists lie in the file."""
    if head[:2] != b"MZ":
        return
    at = struct.unpack_from("<I", head, 0x3C)[0]
    if head[at : at + 4] != b"PE\0\0" or at + 24 > len(head):
        return
    count, optional = struct.unpack_from("<H", head, at + 6)[0], struct.unpack_from("<H", head, at + 20)[0]
    table = at + 24 + optional
    for number in range(count):
        row = table + 40 * number
        if row + 40 > len(head):
            return
        length, start = struct.unpack_from("<II", head, row + 16)
        if start + length > size:
            raise bad_image(path, f"it is truncated: section {number} ends at byte {start + length} of a file of {size}")


def fw_dynamic_info(entry: int, hart: int, bits: int) -> bytes:
    """struct fw_dynamic_info (OpenSBI, docs/firmware/fw_dynamic.md): next stage, its mode, boot hart."""
    words = (_FW_DYNAMIC_MAGIC, _FW_DYNAMIC_VERSION, entry, _MODE_S, 0, hart)
    return struct.pack("<6Q" if bits == 64 else "<6I", *words)
