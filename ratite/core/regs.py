"""Register tables: one declaration gives decoding, masks, reset values and saved state.

    class Uart(MmioDevice):
        REGIONS = {"regs": Window(8, access=(1, 1))}
        IER = Reg(0x1, size=1, fields={"erbfi": 0, "etbei": 1}, reserved=0xF0, reset=0)
        ISR = Reg(0x2, size=1, readonly=0xFF)
        COMPARE = RegArray(0x100, count=4, stride=8, size=8)

        @IER.on_write
        def _ier_written(self, value: int, old: int) -> None:     # after self.IER was changed
            self.update()

        @ISR.on_read
        def _isr_read(self, value: int) -> int:                   # the value that the bus sees
            return value | 0x10

On an instance `self.IER` is the register's value, a plain int attribute (for a RegArray a list of ints, and
the hooks get `index` first); on the class `Uart.IER` is the declaration.  Values are state, declared
automatically under the lower-case name.

A write changes the bits that are neither `reserved`, `readonly` nor `w1c`; w1c bits that are written 1 become 0.
A hook sees the bits as written (`value`, reserved bits too) and the register's former value (`old`).
Registers of one offset may differ by direction (access="ro", "wo") and by `bank`: a number that the device
keeps in its attribute `reg_bank` (ns16550's DLAB), by default 0; a register without a bank is in all.

An access that starts inside a register or is narrower than it reads or changes the bytes it covers; bytes
count in the window's byte order.  A class compiles its tables once; an access of the register's own size is
one dict look-up.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeVar, overload

from ratite.core.objects.props import Prop

if TYPE_CHECKING:
    from ratite.core.device import MmioDevice

_Hook = TypeVar("_Hook", bound=Callable[..., Any])


class _Decl:
    """What Reg and RegArray share: see the module's head for the meaning of the arguments."""

    count = 0
    stride = 0

    def __init__(
        self,
        offset: int,
        *,
        size: int = 4,
        fields: Mapping[str, int | tuple[int, int]] = MappingProxyType({}),
        reserved: int = 0,
        readonly: int = 0,
        w1c: int = 0,
        reset: int = 0,
        access: str = "rw",
        bank: int | None = None,
        region: str = "regs",
        text: str = "",
        saved: bool = True,
    ) -> None:
        self.offset = offset
        self.size = size
        self.mask = (1 << 8 * size) - 1
        # name → (lowest bit, width)
        self.fields = MappingProxyType(
            {k: (v, 1) if isinstance(v, int) else (v[1], v[0] - v[1] + 1) for k, v in fields.items()}
        )
        self.reset_value = reset
        self.w1c = w1c
        self.writable = self.mask & ~(reserved | readonly | w1c)
        self.access = access
        self.bank = bank
        self.region = region
        self.text = text
        self.saved = saved
        self.attr = ""
        self.read_hook = ""
        self.write_hook = ""
        self._read: Callable[..., Any] | None = None
        self._write: Callable[..., Any] | None = None

    def __set_name__(self, owner: type, attr: str) -> None:
        self.attr = attr
        # A hook is looked up by name in the instance's class, so that a subclass may override it.
        for name, value in owner.__dict__.items():
            if value is self._read and value is not None:
                self.read_hook = name
            if value is self._write and value is not None:
                self.write_hook = name

    def on_read(self, hook: _Hook) -> _Hook:
        """Decorator: `hook(self, value) -> int` answers reads; it may have side effects."""
        self._read = hook
        return hook

    def on_write(self, hook: _Hook) -> _Hook:
        """Decorator: `hook(self, value, old) -> None` is called after a write changed the register."""
        self._write = hook
        return hook

    def field(self, name: str, value: int) -> int:
        """The field's bits out of a register value."""
        low, width = self.fields[name]
        return value >> low & (1 << width) - 1

    def bit(self, name: str) -> int:
        """The field's mask in place."""
        low, width = self.fields[name]
        return (1 << width) - 1 << low

    def merged(self, old: int, value: int, lanes: int) -> int:
        """The register after `value` was written to the bits `lanes` of `old`."""
        take = self.writable & lanes
        return (old & ~take | value & take) & ~(value & self.w1c & lanes)


class Reg(_Decl):
    """One register.  `field("name", v)` and `bit("name")` use its fields: {"name": bit or (high, low)}."""

    if TYPE_CHECKING:

        @overload
        def __get__(self, instance: None, owner: type) -> Reg: ...
        @overload
        def __get__(self, instance: object, owner: type) -> int: ...
        def __get__(self, instance: object, owner: type) -> Reg | int: ...
        def __set__(self, instance: object, value: int) -> None: ...

    def declare_props(self) -> Iterator[Prop]:
        """The property that holds the value."""
        if self.saved:
            prop = Prop("state", f"uint{8 * self.size}", self.reset_value, self.text or "register")
            prop.__set_name__(object, self.attr)
            yield prop


class RegArray(_Decl):
    """`count` registers alike, `stride` bytes apart; the value is a list of ints."""

    def __init__(self, offset: int, *, count: int, stride: int = 0, **rules: Any) -> None:
        super().__init__(offset, **rules)
        self.count = count
        self.stride = stride or self.size

    if TYPE_CHECKING:

        @overload
        def __get__(self, instance: None, owner: type) -> RegArray: ...
        @overload
        def __get__(self, instance: object, owner: type) -> list[int]: ...
        def __get__(self, instance: object, owner: type) -> RegArray | list[int]: ...
        def __set__(self, instance: object, value: list[int]) -> None: ...

    def declare_props(self) -> Iterator[Prop]:
        """The property that holds the values."""
        if self.saved:
            text = self.text or "registers"
            prop = Prop("state", f"list:uint{8 * self.size}", [self.reset_value] * self.count, text)
            prop.__set_name__(object, self.attr)
            yield prop


_Entry = tuple[_Decl, int]  # the register and its index (-1: no array)


class RegisterTable:
    """The registers of one window, ready for look-up: (bank, offset) → register."""

    __slots__ = ("_banks", "_cover_reads", "_cover_writes", "_reads", "_regs", "_writes")

    def __init__(self, regs: list[_Decl]) -> None:
        self._regs = tuple(regs)
        self._banks = banks = sorted({reg.bank for reg in regs if reg.bank is not None} | {0})
        self._reads: dict[tuple[int, int, int], _Entry] = {}
        self._writes: dict[tuple[int, int, int], _Entry] = {}
        # (bank, byte) → the register that covers it and the byte's distance from its start
        self._cover_reads: dict[tuple[int, int], tuple[_Entry, int]] = {}
        self._cover_writes: dict[tuple[int, int], tuple[_Entry, int]] = {}
        for reg in regs:
            for bank in banks if reg.bank is None else (reg.bank,):
                for index in range(reg.count) or (-1,):
                    self._enter(reg, bank, index)

    def _enter(self, reg: _Decl, bank: int, index: int) -> None:
        offset = reg.offset + max(index, 0) * reg.stride
        for letter, exact, cover in (
            ("r", self._reads, self._cover_reads),
            ("w", self._writes, self._cover_writes),
        ):
            if letter not in reg.access.replace("o", ""):
                continue
            key = (bank, offset, reg.size)
            taken = cover.get((bank, offset))
            if taken is not None:
                raise TypeError(f"registers {taken[0][0].attr} and {reg.attr} overlap at offset {offset:#x}")
            exact[key] = (reg, index)
            for byte in range(reg.size):
                cover[bank, offset + byte] = ((reg, index), byte)

    def read(self, device: MmioDevice, offset: int, size: int) -> int | None:
        """The value that the bus sees; None when no register covers the access."""
        bank = getattr(device, "reg_bank", 0)
        entry = self._reads.get((bank, offset, size))
        if entry is not None:
            return _read(device, *entry)
        covered = self._cover_reads.get((bank, offset))
        if covered is None:
            return None
        entry, byte = covered
        reg = entry[0]
        shift = _shift(device, reg, byte, size)
        return _read(device, *entry) >> shift & (1 << 8 * size) - 1

    def write(self, device: MmioDevice, offset: int, size: int, value: int) -> bool:
        """Write the covered bytes; False when no register covers the access."""
        bank = getattr(device, "reg_bank", 0)
        entry = self._writes.get((bank, offset, size))
        if entry is not None:
            _write(device, *entry, value, entry[0].mask)
            return True
        covered = self._cover_writes.get((bank, offset))
        if covered is None:
            return False
        entry, byte = covered
        reg = entry[0]
        shift = _shift(device, reg, byte, size)
        lanes = ((1 << 8 * size) - 1 << shift) & reg.mask
        _write(device, *entry, value << shift & lanes, lanes)
        return True

    def reader(self, device: MmioDevice, offset: int, size: int) -> Callable[[], int] | None:
        """What `read` answers, as a function with everything looked up; None where that depends on the bank, or where the
        access isn't of a whole register."""
        entry = self._in_all_banks(self._reads, offset, size)
        if entry is None:
            return None
        reg, index = entry
        if index < 0:
            values: dict[str, int] = device.__dict__
            value: Callable[[], int] = partial(values.get, reg.attr, reg.reset_value)  # type: ignore[assignment]  # never None
            if not reg.read_hook:
                return value
            hook, mask = getattr(device, reg.read_hook), reg.mask
            return lambda: hook(value()) & mask
        return partial(_read, device, reg, index)

    def writer(self, device: MmioDevice, offset: int, size: int) -> Callable[[int], None] | None:
        """What `write` does, in the same way."""
        entry = self._in_all_banks(self._writes, offset, size)
        if entry is None:
            return None
        reg, index = entry
        if index >= 0 or not reg.write_hook:
            return lambda value: _write(device, reg, index, value, reg.mask)
        values, attr, reset = device.__dict__, reg.attr, reg.reset_value
        take, keep, clear = reg.writable, ~reg.writable, reg.w1c
        hook = getattr(device, reg.write_hook)

        def write(value: int) -> None:
            old: int = values.get(attr, reset)
            values[attr] = (old & keep | value & take) & ~(value & clear)
            hook(value, old)

        return write

    def _in_all_banks(self, exact: Mapping[tuple[int, int, int], _Entry], offset: int, size: int) -> _Entry | None:
        entries = {exact.get((bank, offset, size)) for bank in self._banks}
        return entries.pop() if len(entries) == 1 else None

    def reset(self, device: MmioDevice) -> None:
        """Every register of the window to its reset value; no hook is called."""
        for reg in self._regs:
            setattr(device, reg.attr, [reg.reset_value] * reg.count if reg.count else reg.reset_value)


def _shift(device: MmioDevice, reg: _Decl, byte: int, size: int) -> int:
    """Where the accessed bytes lie in the register, in bits from its lowest."""
    region = device.regions.get(reg.region)
    if region is not None and region.big:
        return max(8 * (reg.size - size - byte), 0)
    return 8 * byte


def _read(device: MmioDevice, reg: _Decl, index: int) -> int:
    if index < 0:
        value: int = device.__dict__.get(reg.attr, reg.reset_value)
        return getattr(device, reg.read_hook)(value) & reg.mask if reg.read_hook else value
    value = device.__dict__[reg.attr][index]
    return getattr(device, reg.read_hook)(index, value) & reg.mask if reg.read_hook else value


def _write(device: MmioDevice, reg: _Decl, index: int, value: int, lanes: int) -> None:
    if index < 0:
        old: int = device.__dict__.get(reg.attr, reg.reset_value)
        device.__dict__[reg.attr] = reg.merged(old, value, lanes)
        if reg.write_hook:
            getattr(device, reg.write_hook)(value if lanes == reg.mask else old & ~lanes | value, old)
        return
    values = device.__dict__[reg.attr]
    old = values[index]
    values[index] = reg.merged(old, value, lanes)
    if reg.write_hook:
        getattr(device, reg.write_hook)(index, value if lanes == reg.mask else old & ~lanes | value, old)


def compile_tables(cls: type) -> Mapping[str, RegisterTable]:
    """The tables of a class by window, its bases' registers included."""
    declared: dict[str, _Decl] = {}
    for base in reversed(cls.__mro__):
        for attr, value in base.__dict__.items():
            if isinstance(value, _Decl):
                declared[attr] = value
            elif attr in declared:
                del declared[attr]
    regions: dict[str, list[_Decl]] = {}
    for reg in declared.values():
        regions.setdefault(reg.region, []).append(reg)
    return MappingProxyType({name: RegisterTable(regs) for name, regs in regions.items()})
