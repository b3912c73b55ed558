"""Devices: objects with irq lines, reset and register windows.  They know no bus and no board.

`Device` has lines (INPUTS, OUTPUTS); `MmioDevice` has windows of registers (REGIONS) as well, which
`map-region` puts into any number of address spaces.  Every hook is called under the machine lock.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar

from ratite.core import log
from ratite.core.irq import Input, Output, find_end
from ratite.core.objects.obj import Obj
from ratite.core.objects.props import Prop, debug, state
from ratite.qapi.errors import GenericError

if TYPE_CHECKING:
    from ratite.core.clock import Timer, VirtualClock
    from ratite.core.fdt import Described, DeviceTree
    from ratite.core.regs import RegisterTable

# An unmodelled access is logged once a site; a guest that scans memory must not fill the set.
_SITES_MAX = 256


class TimerProp(Prop):
    """The deadline of one of a device's timers, so that it is saved like everything else; -1: not armed."""

    __slots__ = ("timer",)

    def __init__(self, name: str, timer: Timer) -> None:
        super().__init__("state", "int64", -1, "deadline of a timer, virtual time; -1: not armed", name=name, unit="ns")
        self.timer = timer


class Device(Obj):
    """An object with irq lines, added by device_add."""

    TYPE = "device"
    ABSTRACT = True
    KIND = "device"

    # How the device stands in a device tree, where name and `compatible` are all there is to say (ratite.core.fdt).
    FDT: ClassVar[Described | None] = None

    # What the device answers to in the device trees of others, and how it reads them: rules as plain data, for the manifest.
    #
    #   compatible   the strings; several types may answer to one, then the node is all of them
    #   regions      the region that each entry of reg is (default: the first region); joined: reg is pieces of one
    #   offset       what is added to reg
    #   properties   {property: cell's name, or {cell, divide, node} | {const} | {targets} | {modes} | {size} | {base: n} |
    #                {present, value} | {text, behind} | {guest-endianness} | {window: [PCI space, 0: bus address, 2: size]}}
    #   inputs       the input that an interrupt's number counts, or {number: input}
    #   root         [output, CPU's input] of a controller that a tree tells no parent of
    #   ranges, map  of a PCI host: {space code: region}, and the output that interrupt-map counts
    FROM_FDT: ClassVar[tuple[Mapping[str, Any], ...]] = ()

    # An input's level is its driver's state; it is put back with the driver's outputs.
    input_levels = debug("list:uint8", text="levels of the irq inputs", getter="_input_levels")
    output_levels = state(
        "list:uint8", text="levels of the irq outputs", maximum=1, getter="_output_levels", setter="_set_outputs"
    )

    def __init__(self, id: str) -> None:
        super().__init__(id)
        self.inputs: dict[str, list[Input]] = {}
        self.outputs: dict[str, list[Output]] = {}

    # -- time

    @property
    def clock(self) -> VirtualClock:
        """The machine's virtual clock: the only time a device knows."""
        return self.machine.clock

    def timer(self, callback: Callable[[], None], name: str = "") -> Timer:
        """A timer of the virtual clock; `callback` runs under the machine lock, on the owner thread or a vCPU's, and must not
        block.

        Made in realize(); its deadline is a property of the instance (`name`, default "timer0" and so on), of kind
        state.  A device that goes takes its timers with it.
        """
        timer = self.machine.clock.timer(callback)
        name = name or f"timer{sum(isinstance(prop, TimerProp) for prop in self.instance_properties.values())}"
        self.instance_properties = MappingProxyType({**self.instance_properties, name: TimerProp(name, timer)})
        return timer

    def raw_property(self, prop: Prop) -> Any:
        """As Obj's, with deadlines out of timers."""
        if isinstance(prop, TimerProp):
            return -1 if prop.timer.deadline is None else prop.timer.deadline
        return super().raw_property(prop)

    def store_property(self, prop: Prop, value: Any) -> None:
        """As Obj's, with deadlines into timers."""
        if not isinstance(prop, TimerProp):
            super().store_property(prop, value)
        elif value < 0:
            prop.timer.cancel()
        else:
            prop.timer.arm(value)

    # -- irq lines

    def line_counts(self, table: Mapping[str, int | str]) -> dict[str, int]:
        """INPUTS or OUTPUTS with property names replaced by their values."""
        return {
            name: count if isinstance(count, int) else self.get_property(count) for name, count in table.items()
        }

    def make_lines(self) -> None:
        """Make the line ends, once; wiring calls it, a test without a machine may."""
        if not self.inputs and not self.outputs:
            self.inputs = {
                name: [Input(self, name, i) for i in range(count)]
                for name, count in self.line_counts(self.INPUTS).items()
            }
            self.outputs = {
                name: [Output(self, name, i) for i in range(count)]
                for name, count in self.line_counts(self.OUTPUTS).items()
            }

    def out(self, name: str, index: int | None = None) -> Output:
        """The output "irq", "irq[3]" or ("irq", 3); GenericError if there is none.  Look it up in realize()."""
        return find_end(self.outputs, self, name if index is None else f"{name}[{index}]", "output")

    def inp(self, name: str, index: int | None = None) -> Input:
        """The input "irq", "irq[3]" or ("irq", 3); GenericError when there is none."""
        return find_end(self.inputs, self, name if index is None else f"{name}[{index}]", "input")

    def all_inputs(self) -> Iterator[Input]:
        """Every input, in declared order."""
        for group in self.inputs.values():
            yield from group

    def all_outputs(self) -> Iterator[Output]:
        """Every output, in declared order."""
        for group in self.outputs.values():
            yield from group

    def input_handler(self, name: str, index: int) -> Callable[[int], None]:
        """What an input calls with its level; override to save a call."""
        return partial(self.on_input, name, index)

    def on_input(self, name: str, index: int, level: int) -> None:
        """An input changed; `level` is 0 or 1."""

    def check_peer(self, output: Output, peer: Input) -> None:
        """`output` of this device is to drive `peer`; GenericError to refuse it."""

    def connected(self, output: Output) -> None:
        """`output` of this device drives its peer from now on."""

    def passes_on(self, end: Input) -> Iterable[Output]:
        """The outputs that merely repeat what this input says, alone or with others."""
        return ()

    # -- device tree

    def fdt_node(self, tree: DeviceTree) -> None:
        """Put the device into a device tree; called once a tree, if a CPU of that tree sees a region of the device."""
        if self.FDT is not None:
            tree.node(self, *self.FDT)

    def fdt_interrupt(self, end: Input) -> Sequence[int] | None:
        """How an interrupt that comes in by this input is written in a device tree; None: this is no interrupt controller."""
        return None

    def _input_levels(self) -> list[int]:
        return [line.level for line in self.all_inputs()]

    def _output_levels(self) -> list[int]:
        return [line.level for line in self.all_outputs()]

    def _set_outputs(self, levels: list[int]) -> None:
        """Put saved levels back at both ends; nobody is told, since the receivers are restored as well."""
        lines = list(self.all_outputs())
        if len(lines) != len(levels):
            raise GenericError(f"'{self.path}' has {len(lines)} irq outputs, not {len(levels)}")
        for line, level in zip(lines, levels, strict=True):
            line.level = level
            if line.peer is not None:
                line.peer.level = level

    # -- life cycle

    def wire(self) -> None:
        """Make the lines.  Subclasses call super()."""
        self.make_lines()

    def unwire(self) -> None:
        """Drop lines and timers."""
        for prop in self.instance_properties.values():
            if isinstance(prop, TimerProp):
                prop.timer.cancel()
        self.instance_properties = MappingProxyType({})
        for output in self.all_outputs():
            output.disconnect()
        for end in self.all_inputs():
            if end.driver is not None:
                end.driver.disconnect()
        self.inputs = {}
        self.outputs = {}


class Window:
    """A window of registers: `size` in bytes (or the name of a property), sizes of accesses in bytes.

    `access` is what the bus may ask, `impl` what mmio_read and mmio_write see (None: the same); the
    memory floor splits and joins.  `endianness` may name a property of the device.
    """

    __slots__ = ("access", "endianness", "impl", "size")

    def __init__(
        self,
        size: int | str,
        access: tuple[int, int] = (1, 4),
        impl: tuple[int, int] | None = None,
        endianness: str = "little",
    ) -> None:
        self.size = size
        self.access = access
        self.impl = impl or access
        self.endianness = endianness


class MmioDevice(Device):
    """A device with register windows."""

    TYPE = "mmio-device"
    ABSTRACT = True

    REGIONS: ClassVar[Mapping[str, Window]] = MappingProxyType({})
    # The register tables by window, compiled from the Reg declarations of the class (ratite.core.regs).
    REGISTERS: ClassVar[Mapping[str, RegisterTable]] = MappingProxyType({})
    # What a read of an unmodelled register answers.
    UNMODELLED: ClassVar[int] = 0

    unmodelled_accesses = debug("uint64", 0, "accesses to registers that this model does not have")

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        from ratite.core.regs import compile_tables

        cls.REGISTERS = compile_tables(cls)

    def __init__(self, id: str) -> None:
        super().__init__(id)
        self.regions: dict[str, Any] = {}
        self._sites: set[tuple[str, int, bool]] = set()

    def windows(self) -> Mapping[str, Window]:
        """The windows of this instance; override when they depend on properties."""
        return self.REGIONS

    def wire(self) -> None:
        """Make lines and regions.  Subclasses call super()."""
        super().wire()
        from ratite.core.memory import MmioRegion

        for name, window in self.windows().items():
            size = window.size if isinstance(window.size, int) else self.get_property(window.size)
            order = window.endianness
            if order not in ("little", "big"):
                order = self.get_property(order)
            self.regions[name] = MmioRegion(
                f"{self.id}/{name}",
                size,
                self,
                partial(self.mmio_read, name),
                partial(self.mmio_write, name),
                endianness="big" if order == "big" else "little",
                access=window.access,
                impl=window.impl,
                reader=partial(self.mmio_reader, name) if self._looks_ahead("mmio_reader", "mmio_read") else None,
                writer=partial(self.mmio_writer, name) if self._looks_ahead("mmio_writer", "mmio_write") else None,
            )

    @classmethod
    def _looks_ahead(cls, maker: str, hook: str) -> bool:
        """Whether `maker` knows of what the class's own `hook` does: it was written by the same class or a later one."""
        made, hooked = (next(c for c in cls.__mro__ if name in c.__dict__) for name in (maker, hook))
        return issubclass(made, hooked)

    def unwire(self) -> None:
        """Drop lines and regions."""
        super().unwire()
        self.regions = {}

    def region(self, name: str = "") -> Any:
        """The region of the window `name`; "" when there is only one."""
        if name in self.regions:
            return self.regions[name]
        if not name and len(self.regions) == 1:
            return next(iter(self.regions.values()))
        have = ", ".join(sorted(self.regions)) or "none"
        what = f"no region '{name}'" if name else "more than one region" if self.regions else "no region"
        raise GenericError(f"'{self.path}' (type '{self.TYPE}') has {what} (it has: {have})")

    def mmio_read(self, region: str, offset: int, size: int, access: Any = None) -> int:
        """A guest's read: the register table's answer.  Never raises."""
        table = self.REGISTERS.get(region)
        value = table.read(self, offset, size) if table is not None else None
        return self.unmodelled(region, offset, False) if value is None else value

    def mmio_write(self, region: str, offset: int, size: int, value: int, access: Any = None) -> None:
        """A guest's write, through the register table.  Never raises."""
        table = self.REGISTERS.get(region)
        if table is None or not table.write(self, offset, size, value):
            self.unmodelled(region, offset, True)

    def mmio_reader(self, region: str, offset: int, size: int, access: Any = None) -> Callable[[], int] | None:
        """A function that answers as `mmio_read` does with these arguments, now and later, with all that never changes looked
        up; None: `mmio_read` itself.  Called under the machine lock as that is.  Asked only of a class whose `mmio_read`
        it knows: one that overrides `mmio_read` alone is called there."""
        table = self.REGISTERS.get(region)
        return table.reader(self, offset, size) if table is not None else None

    def mmio_writer(self, region: str, offset: int, size: int, access: Any = None) -> Callable[[int], None] | None:
        """The same for `mmio_write`; the function takes the value."""
        table = self.REGISTERS.get(region)
        return table.writer(self, offset, size) if table is not None else None

    def unmodelled(self, region: str, offset: int, write: bool) -> int:
        """Count an access to a register that isn't modelled, log it once a site, answer the documented value."""
        self.unmodelled_accesses += 1
        site = (region, offset, write)
        if site not in self._sites and len(self._sites) < _SITES_MAX:
            self._sites.add(site)
            op = "write" if write else "read"
            log.warn("unmodelled register", device=self.path, region=region, offset=hex(offset), op=op)
        return self.UNMODELLED

    def reset(self) -> None:
        """Every register to its reset value.  Subclasses call super()."""
        for table in self.REGISTERS.values():
            table.reset(self)
