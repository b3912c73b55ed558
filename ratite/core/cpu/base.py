"""`Cpu`: what every CPU type derives from; a target adds its ISA, its lines and its properties.

    class Rv64RiscvCpu(Cpu):
        TYPE = "rv64-riscv-cpu"
        TARGETS = ("riscv64",)
        ISA = "ratite.targets.riscv.isa:build"
        ELF_MACHINE = 243
        LINES = {"msip": 3, "mtip": 7, "meip": 11}        # name → bit of the state's irq_lines word

Input lines: those of LINES, `reset` (the CPU stands while it is 1 and starts anew when it falls) and `halt` (it stands
while it is 1).  A CPU that starts powered off starts when either falls from 1 to 0.  One that is plugged into a machine that
has run starts so unless `start-powered-off` was given: nobody there knows of it.  The machine's reset starts it as all others.

Every state field of the ISA is a property of kind state of the instance, from realized to unrealized: "pc", "x5".
Images are parsed and checked in realize() and written by the machine's reset, after everything is mapped.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar

from ratite.core import log
from ratite.core.assembly import READY
from ratite.core.cpu.thread import CpuThread
from ratite.core.device import Device
from ratite.core.objects.props import Prop, config, debug, link, state, tunable
from ratite.core.owner import on_vcpu
from ratite.core.runstate import PRELAUNCH
from ratite.qapi.errors import GenericError

if TYPE_CHECKING:
    from ratite.core.accel.base import Decoded, RamRange, Vcpu
    from ratite.core.boot import Boot, RawKernel
    from ratite.core.cpu.cluster import CpuCluster
    from ratite.core.loader import Image
    from ratite.core.memory.access import Access
    from ratite.core.memory.space import Space


_HIDDEN = (("irq_lines", 64, "levels of the input lines"), ("ctx", 8, "decoding context"))


class RegisterProp(Prop):
    """A register of one CPU: element `index` of the state field `field`."""

    __slots__ = ("field", "index")

    def __init__(self, name: str, width: int, text: str, field: str, index: int) -> None:
        size = next(n for n in (8, 16, 32, 64) if width <= n)
        maximum = None if size == width else (1 << width) - 1
        super().__init__("state", f"uint{size}", 0, text, name=name, setter="register", maximum=maximum)
        self.field = field
        self.index = index


class Cpu(Device):
    """A CPU: executes its program in the view of memory of its cluster."""

    TYPE = "cpu"
    ABSTRACT = True
    KIND = "cpu"

    ISA: str = ""
    ELF_MACHINE: ClassVar[int] = 0
    # Its registers in the order in which they stand in a core file ("": one that it hasn't); none: it has no core files.
    CORE_REGISTERS: ClassVar[tuple[str, ...]] = ()
    LINES: ClassVar[Mapping[str, int]] = MappingProxyType({})
    # Whether the type's features never change by version, as those of a chip.
    STATIC_MODEL: ClassVar[bool] = False
    # Where the CPU starts when neither reset-pc nor an image says it.
    RESET_PC: ClassVar[int] = 0
    PC: ClassVar[str] = "pc"
    # What a machine with these CPUs is to a device tree.
    FDT_MACHINE: ClassVar[tuple[str, ...]] = ("ratite",)
    # Whether CPUs without a program of their own start as the one of their guest that has firmware or a kernel.
    FOLLOWS: ClassVar[bool] = False

    cluster = link("cpu-cluster", "the cluster that the CPU belongs to")
    cpu_index = config("uint16", 0, "number of the CPU in its cluster; unique there")
    image = config("str", "", "program: path of an ELF file")
    image_raw = config("str", "", "program: path of a raw binary, loaded at image-addr")
    image_addr = config("uint64", 0, "physical address of the raw binary")
    firmware = config("str", "", "firmware that starts the kernel: path of an ELF file or a raw binary")
    kernel = config("str", "", "kernel: path of an ELF file, or of a raw kernel of the CPU's architecture")
    initrd = config("str", "", "initial ramdisk: path of any file")
    append = config("str", "", "the kernel's command line")
    dtb = config("str", "", "path of a flattened device tree (default: made from the machine as it is)")
    reset_pc = config("uint64", 0, "where execution starts (default: the image's entry, else the CPU's own)")
    start_powered_off = config("bool", False, "stand until the line reset or halt falls")
    log_code = tunable(
        "bool", False, "log instructions when they are first decoded, with the CPU's path and their physical addresses",
        getter="_logs_code", setter="_set_log_code",
    )  # fmt: skip
    instructions = debug("uint64", text="instructions executed", getter="_instructions")
    powered = state("bool", True, "whether the CPU was started")
    asleep = state("bool", text="whether the guest sleeps until an interrupt", getter="_asleep", setter="_set_asleep")
    activity = debug("str", text="parked, running, halted or held", getter="_activity")
    panic = debug("str", "", "why the CPU can't go on")

    def __init_subclass__(cls, **kwargs: Any) -> None:
        if "LINES" in cls.__dict__:
            cls.INPUTS = MappingProxyType({**dict.fromkeys(cls.LINES, 1), "reset": 1, "halt": 1})
        super().__init_subclass__(**kwargs)

    INPUTS = MappingProxyType({"reset": 1, "halt": 1})

    # One bus read of 1, 2, 4 or 8 bytes as the CPU's byte order sees it, one write; they raise BusError. From realized on.
    mmio_load: Callable[[int, int], int]
    mmio_store: Callable[[int, int, int], None]

    def __init__(self, id: str) -> None:
        super().__init__(id)
        self.vcpu: Vcpu | None = None
        self.thread: CpuThread | None = None
        self.access: Access | None = None
        self._images: list[Image] = []
        self.boot: Boot | None = None
        self._in_reset = False
        self._halted = False
        self._log_code = False
        # Plugged, and not reset with the machine yet.
        self._late = False
        self._boot_keys: tuple[tuple[str, int], ...] = ()

    @classmethod
    def expand_model(cls, given: Mapping[str, Any], word_size: int) -> dict[str, bool]:
        """The features of the model (its own properties that are yes or no) with `given` ones; GenericError for a property
        that it hasn't or a value that it can't have. Targets refuse what can't be together."""
        features = {
            prop.name: bool(prop.default)
            for prop in cls.PROPERTIES.values()
            if prop.kind == "config" and prop.type == "bool" and prop.name not in Cpu.PROPERTIES
        }
        for name, value in given.items():
            if name not in features:
                raise GenericError(f"Property '{cls.TYPE}.{name}' not found")
            features[name] = cls.PROPERTIES[name].check(value, cls.TYPE)
        return features

    # -- what an accelerator sees (CpuPort)

    def isa_config(self) -> Mapping[str, object]:
        """What the ISA description depends on; targets add extensions to word size and byte order."""
        return {"word-size": self.cluster.bits, "big-endian": self.cluster.big_endian}

    def ram_ranges(self) -> Sequence[RamRange]:
        """Directly accessible memory of the view."""
        from ratite.core.accel.base import RamRange

        table = self.cluster.space.view.ram_table()
        return [RamRange(start, size, host, ram, offset, ro) for start, size, host, ram, offset, ro in table]

    def _bus(self) -> tuple[Callable[[int, int], int], Callable[[int, int, int], None]]:
        """``mmio_load`` and ``mmio_store``, with nothing left to look up at an access."""
        lock, access = self.machine.lock, self.access
        space: Space = self.cluster.space
        bus_load, bus_store = space.load, space.store
        assert access is not None, "realize() made it"

        @on_vcpu
        def load(addr: int, size: int) -> int:
            with lock:
                return bus_load(addr, size, access)

        @on_vcpu
        def store(addr: int, size: int, value: int) -> None:
            with lock:
                bus_store(addr, size, value, access)

        return load, store

    @on_vcpu
    def load_site(self, addr: int, size: int) -> Callable[[], int] | None:
        """See CpuPort."""
        from ratite.core.memory.sites import load_site

        lock, access = self.machine.lock, self.access
        assert access is not None, "realize() made it"
        with lock:
            return load_site(self.cluster.space, addr, size, access, lock)

    @on_vcpu
    def store_site(self, addr: int, size: int) -> Callable[[int], None] | None:
        """See CpuPort."""
        from ratite.core.memory.sites import store_site

        lock, access = self.machine.lock, self.access
        assert access is not None, "realize() made it"
        with lock:
            return store_site(self.cluster.space, addr, size, access, lock)

    def clock_ns(self) -> int:
        """The machine's virtual time."""
        return self.machine.clock.now()

    def clock_offset(self) -> int | None:
        """See CpuPort."""
        return self.machine.clock.offset

    def on_notify(self, number: int, value: int) -> None:
        """A compare register of the CPU was set; a target whose ISA notifies overrides this."""

    def on_ask(self, number: int, value: int) -> int:
        """The guest asks the CPU object; a target whose ISA asks overrides this."""
        return 0

    # -- life cycle

    def wire(self) -> None:
        """Join the cluster."""
        super().wire()
        self.cluster.add_cpu(self)

    def unwire(self) -> None:
        """Leave the cluster."""
        if self.cluster is not None:
            self.cluster.remove_cpu(self)
        super().unwire()

    def given_as(self, prop: Prop) -> Any:
        """As Obj's; where a CPU starts follows from what it runs, unless a client said it."""
        return None if prop.name == "reset-pc" and prop.name not in self.given else super().given_as(prop)

    def realize(self) -> None:
        """Check the images, make the vCPU, start its thread (parked)."""
        from ratite.core.memory.access import Access

        cluster: CpuCluster = self.cluster
        images, boot = self._read_images()
        self.access = Access(self, cluster.big_endian)
        self.mmio_load, self.mmio_store = self._bus()
        if cluster.accelerator is None:
            raise GenericError(f"cluster '{cluster.path}' has no accelerator")
        self.vcpu = vcpu = cluster.accelerator.create_vcpu(self, int(self.cpu_index))
        self.thread = CpuThread(f"{self.machine.name}:{self.id}", vcpu, _Listener(self), self.machine.owner)
        try:
            self.machine.state.add_thread(self, self.thread)
        except RuntimeError as exc:
            vcpu.close()
            self.vcpu = self.thread = None
            raise GenericError(f"the host has no thread for '{self.path}': {exc}") from exc
        if self._log_code:
            self._watch_code(vcpu, True)
        self._images, self.boot = images, boot
        if "reset-pc" not in self.given:
            self.reset_pc = boot.entry if boot is not None else images[0].entry if images else self.RESET_PC
        self.instance_properties = MappingProxyType({**self.instance_properties, **self._register_props()})
        self._in_reset = self._halted = False
        late = self.machine.phase == READY and self.machine.status != PRELAUNCH
        self._late = late and "start-powered-off" not in self.given
        self.powered = not (self.start_powered_off or self._late)
        self._hold()

    def unrealize(self) -> None:
        """End the thread and free the vCPU; one that is wedged keeps it."""
        free = self.machine.state.remove_thread(self)
        if self.vcpu is not None and (free or (self.thread is not None and self.thread.ended)):
            self.vcpu.close()
        self.instance_properties = MappingProxyType({})
        self.vcpu = None
        self.thread = None
        self._images, self.boot = [], None
        if "reset-pc" not in self.given:
            self.reset_pc = 0

    def load_image(self) -> None:
        """Write the images into memory (they were checked); every reset of the machine does."""
        for image in self._images:
            image.write(self.cluster.space)
        if self.boot is not None:
            self.boot.write()

    def reset(self) -> None:
        """Start anew at `reset-pc`; nothing executes."""
        self.panic = ""
        self.powered = not (self.start_powered_off or self._late)
        self._late = False
        if self.vcpu is not None:
            self._follow()
            self._hold()
            self.restart()

    def restart(self) -> None:
        """The architectural reset alone, on whatever thread; the CPU's own thread does it if it runs."""
        if self.thread is not None:
            self.thread.request_reset(int(self.reset_pc))

    def _follow(self) -> None:
        """Take entry and registers from the plan of this CPU, or of the one that it follows now."""
        assert self.vcpu is not None, "a realized CPU is reset"
        for key in self._boot_keys:
            self.vcpu.reset_values.pop(key, None)
        boot = self.boot or self._leader()
        registers = self.boot_registers(boot) if boot is not None else {}
        self._boot_keys = tuple(registers)
        if registers:
            self.vcpu.reset_values.update(registers)
        if boot is not None and "reset-pc" not in self.given:
            self.reset_pc = boot.entry

    def _leader(self) -> Boot | None:
        if not self.FOLLOWS or self._images or "reset-pc" in self.given:
            return None
        from ratite.core.fdt.tree import group_of

        plans = (cpu.boot for cpu in group_of(self) if cpu.phase == "realized")
        return next((boot for boot in plans if boot is not None), None)

    def _read_images(self) -> tuple[list[Image], Boot | None]:
        """Parse and check, write nothing."""
        from ratite.core import loader
        from ratite.core.boot import Boot, check_overlaps

        cluster: CpuCluster = self.cluster
        files = self.machine.files
        images: list[Image] = []
        boot = None
        if any((self.firmware, self.kernel, self.initrd, self.append, self.dtb)):
            boot = Boot(self)
            images += boot.images
        if self.image:
            images.append(loader.read_elf(self.image, self.ELF_MACHINE, cluster.bits, cluster.big_endian, files))
        if self.image_raw:
            images.append(loader.read_raw(self.image_raw, int(self.image_addr), files))
        held = self.machine.host_memory(self)
        for image in images:
            image.fetch(cluster.space, held)
            held += image.host_memory
        check_overlaps(self, images, boot)
        return images, boot

    def loaded(self) -> tuple[list[Image], Boot | None]:
        """What this CPU has loaded at each reset."""
        return self._images, self.boot

    # -- booting and the device tree: what a target says

    def boot_kernel(self, path: str, head: bytes, size: int) -> RawKernel:
        """What a raw kernel says of itself in its first bytes `head`, of `size` in all; GenericError when it isn't one."""
        from ratite.core.loader import bad_image

        raise bad_image(path, "not an ELF file")

    def boot_args(self, boot: Boot) -> bytes:
        """What lies behind the device tree at `boot.args_at`."""
        return b""

    def boot_registers(self, boot: Boot) -> Mapping[tuple[str, int], int]:
        """(field, index) → value of the state where the CPU starts with this plan, its own or its leader's."""
        return {}

    def fdt_number(self) -> int:
        """Where the CPU stands among those of its guest."""
        return int(self.cpu_index)

    def host_memory(self) -> int:
        """The images, which are kept for the next reset."""
        return sum(image.host_memory for image in self._images)

    # -- lines

    def input_handler(self, name: str, index: int) -> Callable[[int], None]:
        """Irq lines go straight to the vCPU."""
        if name == "reset":
            return self._on_reset_line
        if name == "halt":
            return self._on_halt_line
        assert self.vcpu is not None and self.thread is not None, "lines are enabled after realize"
        bit, set_line, wake = self.LINES[name], self.vcpu.set_line, self.thread.wake

        def deliver(level: int) -> None:
            set_line(bit, level != 0)
            wake()

        return deliver

    def _on_reset_line(self, level: int) -> None:
        self._in_reset = bool(level)
        if not level:
            self.powered = True
        self._hold()
        self.restart()

    def _on_halt_line(self, level: int) -> None:
        self._halted = bool(level)
        if not level:
            self.powered = True
        self._hold()

    def _hold(self) -> None:
        if self.thread is not None:
            self.thread.hold(self._in_reset or self._halted or not self.powered)

    # -- registers as properties

    def pc(self) -> int:
        """The program counter; the vCPU is parked."""
        return 0 if self.vcpu is None else self.vcpu.get(self.PC)

    def _register_props(self) -> dict[str, Prop]:
        assert self.vcpu is not None, "realize() made it"
        props: dict[str, Prop] = {}
        # What every vCPU has besides the fields that its ISA declares.
        for name, width, text in (("pc", self.cluster.bits, "program counter"), *_HIDDEN):
            with suppress(KeyError):
                self.vcpu.get(name)
                props[name] = RegisterProp(name, width, text, name, 0)
        for field in self.vcpu.fields():
            for index, name in enumerate(field.names):
                props[name] = RegisterProp(name, field.width, field.text or "register", field.name, index)
        return props

    def raw_property(self, prop: Prop) -> Any:
        """As Obj's, with registers out of the vCPU."""
        if isinstance(prop, RegisterProp):
            return self._parked_vcpu().get(prop.field, prop.index)
        return super().raw_property(prop)

    def store_property(self, prop: Prop, value: Any) -> None:
        """As Obj's, with registers into the vCPU."""
        if isinstance(prop, RegisterProp):
            try:
                self._parked_vcpu().set(prop.field, value, prop.index)
            except (ValueError, OverflowError) as exc:
                raise GenericError(f"Property '{self.TYPE}.{prop.name}' doesn't take value '{value}': {exc}") from exc
        else:
            super().store_property(prop, value)

    def _parked_vcpu(self) -> Vcpu:
        if self.vcpu is None or not self.machine.state.quiet:
            raise GenericError(f"registers of '{self.path}' need a CPU that is realized and parked")
        return self.vcpu

    def _instructions(self) -> int:
        return 0 if self.vcpu is None else self.vcpu.instructions

    @property
    def thread_id(self) -> int:
        """The host's id of the vCPU thread; no property of the tree, since equal machines have equal trees."""
        return 0 if self.thread is None else self.thread.native_id

    def _asleep(self) -> bool:
        return self.thread is not None and self.thread.asleep

    def _logs_code(self) -> bool:
        return self._log_code

    def _set_log_code(self, wanted: bool) -> None:
        if wanted != self._log_code and self.vcpu is not None:
            with self.machine.quiesced():
                self._watch_code(self.vcpu, wanted)
        self._log_code = wanted

    def _watch_code(self, vcpu: Vcpu, wanted: bool) -> None:
        if not vcpu.watch_code(self._tell_code if wanted else None) and wanted:
            raise GenericError(f"Property '{self.TYPE}.log-code' can't be set: the accelerator of '{self.path}' doesn't tell")

    def _tell_code(self, rows: list[Decoded]) -> None:
        for at, encoding, text in rows:
            log.trace("in_asm", cpu=self.path, at=hex(at), code=encoding.hex(), text=text)

    def _set_asleep(self, asleep: bool) -> None:
        if self.thread is not None and self.machine.state.quiet:
            self.thread.asleep = asleep
        elif self.thread is not None:
            raise GenericError("Property 'asleep' can't be set while the machine runs")
        elif asleep:
            raise GenericError(f"Property 'asleep' needs a CPU that is realized, '{self.path}' isn't")

    def post_load(self) -> None:
        """Hold the CPU as its lines say."""
        self._in_reset = any(line.level for line in self.inputs.get("reset", ()))
        self._halted = any(line.level for line in self.inputs.get("halt", ()))
        self._hold()

    def _activity(self) -> str:
        return "" if self.thread is None else self.thread.state


class _Listener:
    """What a CPU's thread tells, handed on to the owner thread."""

    def __init__(self, cpu: Cpu) -> None:
        self._cpu = cpu
        self._machine = cpu.machine

    @on_vcpu
    def vcpu_parked(self) -> None:
        with self._machine.lock:
            self._machine.state.changed.notify_all()

    @on_vcpu
    def vcpu_panicked(self, detail: str) -> None:
        # The thread counts as running until this returns: no reset can come between.
        state = self._machine.state
        self._machine.owner.post(state.cpu_panicked, self._cpu, detail, state.epoch)

    @on_vcpu
    def vcpu_failed(self, error: BaseException) -> None:
        state = self._machine.state
        self._machine.owner.post(state.cpu_failed, self._cpu, error, state.epoch)
