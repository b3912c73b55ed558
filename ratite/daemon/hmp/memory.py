"""x, xp, print: looking at memory and numbers.

/[COUNT][FORMAT][SIZE]   FORMAT: x d u o c i;  SIZE: b h w g (1, 2, 4, 8 bytes)
"""

from __future__ import annotations

import re
from types import MappingProxyType
from typing import TYPE_CHECKING

from ratite.core.memory.access import BusError

if TYPE_CHECKING:
    from collections.abc import Callable

    from ratite.core.cpu.base import Cpu
    from ratite.daemon.hmp.line import Line

_FORMAT = re.compile(r"/\s*(\d*)([a-z]*)\s*")
_SIZES = MappingProxyType({"b": 1, "h": 2, "w": 4, "g": 8})
COUNT_MAX = 1 << 16
SUM_MAX = 1 << 24
# The longest instruction of any ISA, in bytes: how much to read for one.
_INSN_BYTES = 16


def _parse(line: Line) -> tuple[int, str, int, str]:
    """(count, format, size in bytes or 0, the expression's text)."""
    count, shape, size = 1, "x", 0
    text = line.rest
    match = _FORMAT.match(text)
    if match is not None:
        text = text[match.end() :]
        count = int(match[1]) if match[1] else 1
        for char in match[2]:
            if char in "xduoci":
                shape = char
            elif char in _SIZES:
                size = _SIZES[char]
            else:
                raise line.fail(f"invalid char in format: '{char}'")
    if count > COUNT_MAX:
        raise line.fail(f"{line.name}: the count must be at most {COUNT_MAX}, not {count}")
    if not text.strip():
        raise line.fail("unexpected end of expression")
    return count, shape, size, text


def print_value(line: Line) -> str:
    """print /FMT EXPR"""
    _count, shape, _size, text = _parse(line)
    value = line.evaluate(text)
    if shape == "c":
        return f"{_char(value & 0xFF)}\n"
    return f"{_number(value, 8, shape, padded=False)}\n"


def dump_virtual(line: Line) -> str:
    """x /FMT ADDR: by the virtual addresses of the chosen CPU."""
    from ratite.daemon import guest

    cpu = guest.cpu_at(line.ctx.machine, line.cpu_index)
    return _dump(line, cpu, guest.virtual_memory(cpu).read)


def dump_physical(line: Line) -> str:
    """xp /FMT ADDR: by the physical addresses that the chosen CPU sees."""
    from ratite.daemon import guest

    machine = line.ctx.machine
    if not machine.cpus():
        return _dump(line, None, guest.first_space(machine).read)
    cpu = guest.cpu_at(machine, line.cpu_index)
    return _dump(line, cpu, cpu.cluster.space.read)


def checksum(line: Line) -> str:
    """sum ADDR SIZE: of physical memory, in 16 bits, as sum(1) of BSD"""
    from ratite.daemon import guest

    address, left = line.args["addr"], line.args["size"]
    if left > SUM_MAX:
        raise line.fail(f"{line.name}: the size must be at most {SUM_MAX}, not {left}")
    space, total = guest.first_space(line.ctx.machine), 0
    try:
        while left:
            data = space.read(address, min(left, 1 << 16))
            for byte in data:
                total = ((total >> 1 | total << 15) + byte) & 0xFFFF
            address, left = address + len(data), left - len(data)
    except BusError:
        raise line.fail(f"there is no memory at {address:#x}") from None
    return f"{total:05d}\n"


def gva2gpa(line: Line) -> str:
    """gva2gpa ADDR: where a virtual address of the chosen CPU leads"""
    from ratite.daemon import guest

    found = guest.virtual_memory(guest.cpu_at(line.ctx.machine, line.cpu_index)).physical(line.args["addr"])
    return "Unmapped\n" if found is None else f"gpa: {found:#x}\n"


def _dump(line: Line, cpu: Cpu | None, read: Callable[[int, int], bytes]) -> str:
    count, shape, size, text = _parse(line)
    address = line.evaluate(text)
    bits = 64 if cpu is None else cpu.cluster.bits
    digits = bits // 4
    if shape == "i":
        return _instructions(line, cpu, read, address, count, digits)
    size = 1 if shape == "c" else size or 4
    order = "big" if cpu is not None and cpu.cluster.big_endian else "little"
    per_line = 8 if size == 1 else 4 if size == 4 else 16 // size
    lines = []
    for start in range(0, count, per_line):
        at = address + start * size
        cells: list[str] = []
        for number in range(min(per_line, count - start)):
            try:
                data = read(at + number * size, size)
            except BusError:
                lines.append(f"{at:0{digits}x}: {' '.join([*cells, 'Cannot access memory'])}")
                return "\n".join(lines) + "\n"
            value = int.from_bytes(data, order)  # type: ignore[arg-type]
            cells.append(_char(value) if shape == "c" else _number(value, size, shape))
        lines.append(f"{at:0{digits}x}: {' '.join(cells)}")
    return "\n".join(lines) + ("\n" if lines else "")


def _number(value: int, size: int, shape: str, padded: bool = True) -> str:
    bits = 8 * size
    if shape == "d" and value >> (bits - 1):
        value -= 1 << bits
    if shape == "o":
        return f"0{value:0{(bits + 2) // 3}o}" if padded else f"0{value:o}"
    if shape in "du":
        return f"{value:>{_decimal_width(bits, shape)}}" if padded else str(value)
    return f"0x{value:0{bits // 4}x}" if padded else f"{value:#x}"


def _decimal_width(bits: int, shape: str) -> int:
    return len(str(1 << (bits - 1))) + 1 if shape == "d" else len(str((1 << bits) - 1))


def _char(value: int) -> str:
    escapes = {0x27: "\\'", 0x5C: "\\\\", 0x0A: "\\n", 0x0D: "\\r"}
    if value in escapes:
        return f"'{escapes[value]}'"
    return f"'{chr(value)}'" if 32 <= value < 127 else f"'\\x{value:02x}'"


def _instructions(line: Line, cpu: Cpu | None, read: Callable[[int, int], bytes], address: int, count: int, digits: int) -> str:
    if cpu is None or cpu.vcpu is None:
        raise line.fail("there is no realized CPU whose instructions these could be")
    lines: list[str] = []
    with cpu.machine.quiesced():
        while len(lines) < count:
            code = _available(read, address, _INSN_BYTES)
            if not code:
                lines.append(f"0x{address:0{digits}x}:  Cannot access memory")
                break
            decoded = cpu.vcpu.disassemble(address, code)
            if not decoded:
                lines.append(f"0x{address:0{digits}x}:  Cannot disassemble {code.hex()}")
                break
            _at, encoding, text = decoded[0]
            order = "big" if cpu.cluster.big_endian else "little"
            word = int.from_bytes(encoding, order)  # type: ignore[arg-type]
            lines.append(f"0x{address:0{digits}x}:  {word:0{2 * len(encoding)}x}{'':<10}{text}")
            address += len(encoding)
    return "\n".join(lines) + "\n"


def _available(read: Callable[[int, int], bytes], address: int, size: int) -> bytes:
    while size:
        try:
            return read(address, size)
        except BusError:
            size //= 2
    return b""
