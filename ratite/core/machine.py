"""`Machine`: one machine from its first object to its end; everything a client can ask of it.

    created ──wire()──> initialized ──exit_preconfig()──> ready ──cont()/stop()──> running / paused …
       └───────────────exit_preconfig()────────────────────┘         (status: runstate.py)

Threads: one owner (owner.py) does what clients ask, one thread per vCPU, one for the backends' bytes.  Methods without
another note are called on the owner thread: `machine.owner.post(machine.stop)`.

Lock order, the only one:  machine.lock  →  a vCPU thread's lock  →  { the owner's queue, a chardev's mutex } (leaves).
No lock is held across a wait: waiting under machine.lock is done on its Condition (`RunState.changed`) alone.

Events go to `on_event(name, data)` on whatever thread they happen, with the lock held: it must not block.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from itertools import count
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from ratite.core import log
from ratite.core.actions import Actions
from ratite.core.assembly import CREATED, INITIALIZED, READY, Assembly, Map, Wire, check_id
from ratite.core.bus import Bus, BusDevice
from ratite.core.clock import VirtualClock
from ratite.core.dump import Dumper
from ratite.core.hostfiles import FREE, HostFiles
from ratite.core.jobs import Jobs
from ratite.core.memory.limits import check_host_memory
from ratite.core.numa import Numa
from ratite.core.objects.obj import Obj
from ratite.core.objects.props import debug, state, tunable
from ratite.core.owner import Owner
from ratite.core.reset import in_order, reset_all
from ratite.core.runstate import Panic, RunState, Snapshot
from ratite.core.tree import Tree
from ratite.qapi.errors import DeviceNotFound, GenericError, QmpError

if TYPE_CHECKING:
    from ratite.core.backends.block.export import Exports
    from ratite.core.backends.set import ChardevSet
    from ratite.core.cpu.base import Cpu
    from ratite.core.objects.registry import TypeRegistry

# How long the end of a machine may wait for what its owner thread is doing.
CLOSE_S = 20.0
# Where virtual time may be put, in ns: 146 years before an int64 ends.
VIRTUAL_TIME_MAX = 1 << 62
_NONE: Mapping[str, Any] = MappingProxyType({})


class MachineNode(Obj):
    """The object at /machine."""

    TYPE = "hetero-machine"

    primary_target = tunable(
        "str", "", "target meant where a command names none (default: the first cluster's)",
        getter="_primary", setter="_set_primary",
    )  # fmt: skip
    virtual_time = state(
        "int64", text="the machine's clock", unit="ns", maximum=VIRTUAL_TIME_MAX, minimum=0, getter="_now", setter="_set_now"
    )
    status = debug("str", text="run state, as query-status shows it", getter="_status")
    machine_phase = debug("str", text="created, initialized or ready", getter="_phase")

    def __init__(self, id: str) -> None:
        super().__init__(id)
        self._given_primary = ""

    def _primary(self) -> str:
        return self._given_primary

    def _set_primary(self, target: str) -> None:
        if target:
            self.machine.registry.target(target)
        self._given_primary = target

    def _now(self) -> int:
        return self.machine.clock.now()

    def _set_now(self, now: int) -> None:
        if self.machine.running:
            raise GenericError("Property 'virtual-time' can't be set while the machine runs")
        self.machine.clock.set(now)

    def _status(self) -> str:
        return self.machine.state.status

    def _phase(self) -> str:
        return self.machine.phase


class Machine:
    """See the module's head.  `inline`: no owner thread (tests of devices, with a manual clock).

    `chardevs`: some that are there already; their lock becomes the machine's.  `files`: what it may open of the host.
    `limits`: bytes of `ram` and number of `vcpus` that it may have at most.  `kind`: what the object at /machine says it is.
    """

    def __init__(
        self,
        registry: TypeRegistry,
        name: str = "machine",
        *,
        autostart: bool = True,
        clock: VirtualClock | None = None,
        inline: bool = False,
        chardevs: ChardevSet | None = None,
        files: HostFiles = FREE,
        limits: Mapping[str, int] = _NONE,
        kind: str = "",
    ) -> None:
        from ratite.core.backends.block.set import BlockSet
        from ratite.core.backends.net.set import NetdevSet
        from ratite.core.backends.set import ChardevSet

        self.registry = registry
        self.files = files
        self._limits = limits
        self.name = name
        self.autostart = autostart
        self.actions = Actions()
        # Whether what is added is the machine type's own, not a client's.
        self._own = False
        self.phase = CREATED
        self.chardevs = chardevs or ChardevSet(files=files)
        self.lock: Any = self.chardevs.lock
        self.clock = clock or VirtualClock()
        self.owner = Owner(name, self.lock, self.clock, inline)
        self.on_event: Callable[[str, dict[str, Any]], None] = _ignore
        # Called after SHUTDOWN, unless that only pauses: (cause, exit code).
        self.on_shutdown: Callable[[str, int], None] | None = None
        self.dumper = Dumper(self)
        self.jobs = Jobs(self.owner, lambda name, data: self.emit(name, **data))
        self.blocks = BlockSet(self.owner, lambda name, data: self.emit(name, **data), "blockdevs", files)
        self.netdevs = NetdevSet(self.lock, self.chardevs.io, lambda name, data: self.emit(name, **data), "netdevs", files)
        node = MachineNode("machine")
        if kind:
            # A machine type is a file, not a class.
            vars(node)["TYPE"] = kind
        node.machine = self
        self.tree = Tree(node, self.chardevs, self.blocks, self.netdevs)
        self.assembly = Assembly(self)
        self.numa = Numa(self)
        self._exports: Exports | None = None
        self.state = RunState(self, self.lock)
        self.snapshot = Snapshot(self.state.status, False, self.phase)
        self._ended = False

    @property
    def exports(self) -> Exports:
        """The NBD server and what it shows."""
        if self._exports is None:
            from ratite.core.backends.block.export import Exports

            self._exports = Exports(self, lambda name, data: self.emit(name, **data))
        return self._exports

    @property
    def has_exports(self) -> bool:
        """Whether anything was ever shown."""
        return self._exports is not None

    # -- what other threads may read

    @property
    def status(self) -> str:
        """QMP's RunState.  Any thread."""
        return self.snapshot.status

    @property
    def running(self) -> bool:
        """Whether guests run.  Any thread."""
        return self.snapshot.running

    @property
    def panic(self) -> Panic | None:
        """Why the guest panicked, until it is continued or reset.  Any thread."""
        return self.state.panic

    # -- assembling

    def create_object(self, qom_type: str, id: str, props: Mapping[str, Any] = _NONE) -> Obj:
        """object-add: the object at /objects/ID, as far in its life cycle as the machine is."""
        row = self.registry.find(qom_type)
        if row is None or row.abstract or row.kind != "object":
            raise GenericError(f"Parameter 'qom-type' does not accept value '{qom_type}'")
        check_id(id)
        place = self.tree.objects
        if id in place.children:
            raise GenericError(f"attempt to add duplicate property '{id}' to object (type 'container')")
        obj = self.registry.create(qom_type, id)
        self.assembly.add(obj, place, props)
        return obj

    def delete_object(self, id: str) -> None:
        """object-del; refused while something uses the object."""
        obj = self.tree.objects.children.get(id)
        if obj is None:
            raise GenericError(f"object '{id}' not found")
        user = self._user_of(obj)
        if user:
            raise GenericError(f"object '{id}' is in use, can not be deleted ({user})")
        self.assembly.remove(obj)

    def device_add(self, driver: str, id: str | None, props: Mapping[str, Any] = _NONE, any_bus: bool = False) -> Obj:
        """device_add: the device or CPU at /machine/peripheral/ID; after `ready` a hot plug.

        Without an id it is at /machine/peripheral-anon; what the machine type is made of (making_its_own) at
        /machine/unattached.  `any_bus`: where several buses take the device and none is named, one is chosen as QEMU does,
        which depends on the order of assembly.
        """
        row = self.registry.find(driver)
        if row is None or not self.registry.is_a(driver, "device"):
            raise GenericError(f"'{driver}' is not a valid device model name")
        if row.abstract:
            raise GenericError("Parameter 'driver' expects a non-abstract device type")
        if row.kind not in ("device", "cpu"):
            raise GenericError("Parameter 'driver' expects a pluggable device type")
        place = self.tree.anonymous if id is None else self.tree.unattached if self._own else self.tree.peripheral
        if id is None:
            id = next(name for n in count() if (name := f"device[{n}]") not in place.children)
        else:
            check_id(id)
        if row.kind == "cpu":
            self._check_limit("vcpus", 1 + sum(obj.KIND == "cpu" for obj in self.tree.members()), "CPUs")
        obj = self.registry.create(driver, id)
        obj.machine = self
        if any_bus and isinstance(obj, BusDevice):
            props = obj.with_bus(props)
        refusal = obj.hotplug_refusal(props) if self.phase == READY else ""
        if refusal:
            raise GenericError(refusal)
        if id in place.children:
            raise GenericError(f"Duplicate device ID '{id}'")
        self.assembly.add(obj, place, props)
        return obj

    @contextmanager
    def making_its_own(self) -> Iterator[None]:
        """Inside, devices that are added are the machine type's own: they are at /machine/unattached, as QEMU has it."""
        if self.tree.unattached.parent is None:
            self.tree.node.add_child(self.tree.unattached)
        self._own = True
        try:
            yield
        finally:
            self._own = False

    def device_del(self, id: str) -> None:
        """device_del by id or path; refused while something links to the device.

        DEVICE_DELETED follows at once, or, where the guest must let go of the device first, when it has.
        """
        obj = self.tree.find(id) if id.startswith("/") else self.tree.peripheral.children.get(id)
        if obj is None:
            raise DeviceNotFound(f"Device '{id}' not found")
        if id.rstrip("/").rpartition("/")[2] != obj.id:
            # What is behind a transport, by the path that it has where that is an object of its own.
            raise GenericError("Bus 'virtio-bus' does not support hotplugging")
        if obj.parent is self.tree.unattached:
            cpu = f"Device '{obj.TYPE}' can not be hotplugged on this machine"
            raise GenericError(cpu if obj.KIND == "cpu" else "Bus 'main-system-bus' does not support hotplugging")
        if obj.parent not in (self.tree.peripheral, self.tree.anonymous):
            # What else there is are parts of others, which go with them.
            raise GenericError(f"{id} is not a device")
        if self.phase == READY and not obj.HOTPLUG:
            raise GenericError(f"Device '{obj.TYPE}' does not support hotplugging")
        going = [*self._plugged_into(obj), obj] if self.phase == READY else [obj]
        for each in going:
            user = self._link_user(each, going)
            if user:
                raise GenericError(f"Device '{id}' is in use, can not be deleted ({user})")
        if self.phase == READY and not obj.unplug_request():
            return
        self._remove_device(obj)

    def let_go(self, obj: Obj) -> None:
        """The guest has let go of a device that a client or itself wants gone.  Under the machine lock; never blocks."""
        self.owner.post(self._let_go, obj)

    def _let_go(self, obj: Obj) -> None:
        if obj.parent is not None and obj.phase == "realized":
            self._remove_device(obj)

    def _plugged_into(self, obj: Obj) -> list[Obj]:
        """The devices on the buses that a device makes, where those are no devices for guests apart from it."""
        buses = [part for part in obj.walk() if isinstance(part, Bus) and part.PORTS]
        return [user for bus in buses for user, name in self.tree.users_of(bus) if name == "bus"]

    def _remove_device(self, obj: Obj) -> None:
        for other in self._plugged_into(obj):
            self._remove_device(other)
        path, named = obj.path, {"device": obj.id} if obj.parent is self.tree.peripheral else {}
        self.assembly.remove(obj)
        self.emit("DEVICE_DELETED", **named, path=path)

    def chardev_add(
        self,
        id: str,
        kind: str,
        options: Mapping[str, Any] = _NONE,
        fd_of: Callable[[str], int] | None = None,
    ) -> dict[str, str]:
        """chardev-add: see ChardevSet.add."""
        return self.chardevs.add(id, kind, options, fd_of)

    def chardev_remove(self, id: str) -> None:
        """chardev-remove; refused while a device uses it or means to."""
        if self._link_user(self.chardevs.find(id)):
            raise GenericError(f"Chardev '{id}' is busy")
        self.chardevs.remove(id)

    def blockdev_add(self, options: Mapping[str, Any]) -> None:
        """blockdev-add: see BlockSet.add."""
        self.blocks.add(options)

    def blockdev_del(self, name: str) -> None:
        """blockdev-del; refused while a device or a node uses it, or a device means to."""
        if self._link_user(self.blocks.find(name)):
            raise GenericError(f"Node {name} is in use")
        self.blocks.remove(name)

    def netdev_add(self, id: str, kind: str, options: Mapping[str, Any] = _NONE) -> None:
        """netdev_add: see NetdevSet.add."""
        self.netdevs.add(id, kind, options)

    def netdev_del(self, id: str) -> None:
        """netdev_del; refused while a device uses it or means to."""
        user = self._link_user(self.netdevs.find(id))
        if user:
            raise GenericError(f"Netdev '{id}' is in use ({user})")
        self.netdevs.remove(id)

    def wire_irq(self, from_: str, output: str, to: str, input: str) -> None:
        """wire-irq: one output drives one input.  Before wiring, what is named needn't exist."""
        self.assembly.add_wire(Wire(from_, output, to, input))

    def unwire_irq(self, from_: str, output: str, to: str, input: str) -> None:
        """Take a wire out again."""
        self.assembly.remove_wire(self.assembly.find_wire(Wire(from_, output, to, input)))

    def map_region(self, space: str, region: str, offset: int, priority: int = 0) -> None:
        """map-region: `region` is a device's or memory's id or path, with "/NAME" where it has several."""
        self.assembly.add_map(Map(space, region, offset, priority))

    def unmap_region(self, space: str, region: str, offset: int) -> None:
        """Take a map out again."""
        self.assembly.remove_map(self.assembly.find_map(space, region, offset))

    def wire(self) -> None:
        """machine-wire: check and connect everything; one error lists all that is wrong, and nothing has changed."""
        if self.phase != CREATED:
            raise GenericError(f"machine-wire needs the machine in phase '{CREATED}', it is in phase '{self.phase}'")
        self.assembly.wire()
        self._enter(INITIALIZED)

    def exit_preconfig(self) -> None:
        """x-exit-preconfig: wire if that isn't done, realize, reset, and run if `autostart`; all or nothing."""
        if self.phase == READY:
            raise GenericError("The command is permitted only before machine initialization")
        self.numa.settle()
        was = self.phase
        if was == CREATED:
            self.wire()
        try:
            self.assembly.realize()
        except QmpError:
            if was == CREATED:
                self.assembly.unwire()
                self._enter(CREATED)
            raise
        self._enter(READY)
        self.reset_members()
        if self.autostart:
            self.state.cont()

    # -- running

    def cont(self) -> None:
        """cont; RESUME follows."""
        self._need_ready("cont")
        self.dumper.check()
        self.state.cont()

    def stop(self) -> None:
        """stop; STOP follows when every vCPU is parked."""
        self._need_ready("stop")
        self.state.stop()

    def reset(self) -> None:
        """system_reset; RESET follows."""
        self._need_ready("system_reset")
        self.state.reset()

    def inject_nmi(self) -> None:
        """A pulse on the line `nmi` of every CPU that has one; GenericError when none has."""
        lines = [cpu.inp("nmi") for cpu in self.cpus().values() if "nmi" in cpu.INPUTS]
        if not lines:
            raise GenericError("machine does not provide NMIs")
        for line in lines:
            level = line.level
            line.deliver(1 - level)
            line.deliver(level)

    def powerdown(self) -> None:
        """system_powerdown: every power button of the machine is pressed; what the guest makes of it is its own affair."""
        self._need_ready("system_powerdown")
        self.emit("POWERDOWN")
        for obj in list(self.tree.members()):
            obj.power_button()

    def request_shutdown(self, cause: str = "guest-shutdown", exit_code: int = 0) -> None:
        """A guest powers off through a device.  Under the machine lock, any thread; never blocks."""
        self.state.request_shutdown(cause, exit_code)

    def request_reset(self, reason: str = "guest-reset") -> None:
        """A guest resets the machine through a device.  Under the machine lock, any thread; never blocks."""
        self.state.request_reset(reason)

    def request_stop(self, status: str) -> None:
        """A device stops the machine, which is `status` then.  Under the machine lock, any thread; never blocks."""
        self.state.request_stop(status)

    def watchdog_fired(self) -> None:
        """A guest has left its watchdog alone for too long.  Under the machine lock (a timer's callback); never blocks."""
        action = self.actions.watchdog
        self.emit("WATCHDOG", action=action)
        if action == "reset":
            self.request_reset()
        elif action == "poweroff":
            self.request_shutdown()
        elif action == "pause":
            self.request_stop("watchdog")
        elif action == "shutdown":
            self.owner.soon(self.powerdown)
        elif action == "inject-nmi":
            self.owner.soon(self._watchdog_nmi)
        elif action == "debug":
            log.warn("watchdog fired", machine=self.name)

    def _watchdog_nmi(self) -> None:
        try:
            self.inject_nmi()
        except GenericError as refusal:
            log.warn("watchdog fired, and nothing can be done", reason=refusal.desc)

    @property
    def on_resume(self) -> list[Callable[[], None]]:
        """What is called when guests go on after a stop, before they do; under the machine lock."""
        return self.state.on_resume

    def close(self) -> None:
        """End the machine and give everything back: any thread but the owner and vCPU threads; at most some seconds."""
        if not self._ended:
            self._ended = True
            try:
                self.owner.post(self._teardown).result(CLOSE_S)
            except TimeoutError:
                log.error("the owner thread is busy; its machine is left as it is", machine=self.name, seconds=CLOSE_S)
            self.chardevs.close()
            self.owner.end()

    def quiesced(self) -> AbstractContextManager[None]:
        """No vCPU executes inside the `with`."""
        return self.state.quiesced()

    # -- looking

    def resolve(self, path: str) -> Obj:
        """The object at a path, or the only one with this id; DeviceNotFound."""
        return self.tree.resolve(path)

    def resolve_link(self, text: str, type_name: str) -> Obj:
        """What a link means; it must be as far in its life cycle as its user is about to be."""
        found = self.tree.link_target(text, type_name)
        if self.phase == READY and found.phase != "realized":
            raise GenericError(f"'{found.path}' isn't realized")
        return found

    def list_properties(self, path: str) -> list[dict[str, str]]:
        """qom-list: [{"name", "type"}]."""
        return self.tree.listing(path)

    def get_property(self, path: str, name: str) -> Any:
        """qom-get; a running CPU's registers are read while nothing executes."""
        if name in self.resolve(path).instance_properties:
            with self.quiesced():
                return self.tree.get(path, name)
        return self.tree.get(path, name)

    def set_property(self, path: str, name: str, value: Any) -> None:
        """qom-set."""
        obj = self.resolve(path)
        if name in obj.instance_properties:
            with self.quiesced():
                obj.set_property(name, value)
        else:
            obj.set_property(name, value)

    def cpus(self) -> Mapping[int, Cpu]:
        """Every CPU that is wired, so that it has a cluster, by its number, in that order.

        A CPU gets its number when it is realized, those of a new machine by path, and keeps it; until then, by path.
        """
        if self.phase == READY:
            return MappingProxyType(self.state.cpus)
        cpus: Iterator[Cpu] = (obj for obj in self.tree.members() if obj.KIND == "cpu")  # type: ignore[misc]  # what KIND means
        return dict(enumerate(cpu for cpu in cpus if cpu.cluster is not None))

    def tree_dump(self, kinds: tuple[str, ...] = ("config", "tunable", "state", "debug")) -> str:
        """The whole machine as text: objects by path with every property, wires, maps.  Equal machines, equal bytes."""
        with self.quiesced():
            lines = []
            for path, row in self.tree.dump(kinds).items():
                lines.append(f"{path} {row['type']} {row['phase']}")
                lines += [f"  {name} = {value!r}" for name, value in row["properties"].items()]
            made = self.assembly.describe()
        lines += ["wire {from} {output} -> {to} {input}".format(**wire) for wire in made["wires"]]
        lines += [f"map {m['space']} {m['offset']:#x} {m['region']} priority {m['priority']}" for m in made["maps"]]
        return "\n".join(lines) + "\n"

    # -- for the files of this floor

    def host_memory(self, besides: Obj) -> int:
        """Bytes of host memory that everything but `besides` holds for the guest or will."""
        return sum(obj.host_memory() for obj in self.tree.members() if obj is not besides)

    def check_memory(self, name: str, size: int, besides: Obj) -> None:
        """GenericError when `size` bytes for `name` are more than the machine may have, or the host can give."""
        held = self.host_memory(besides)
        self._check_limit("ram", held + size, "bytes of memory")
        check_host_memory(name, size, held)

    def _check_limit(self, name: str, wanted: int, what: str) -> None:
        if wanted > self._limits.get(name, wanted):
            raise GenericError(f"the machine may have {self._limits[name]} {what} at most, not {wanted} (limit '{name}')")

    def emit(self, name: str, **data: Any) -> None:
        """Send an event."""
        self.on_event(name, data)

    def publish(self) -> None:
        """Show the present state to other threads."""
        self.snapshot = Snapshot(self.state.status, self.state.running, self.phase)

    def reset_members(self) -> None:
        """Reset every object; nothing executes."""
        reset_all(in_order(self.tree.members()))

    def reset_one(self, obj: Obj) -> None:
        """The first reset of a hot-plugged object and its parts."""
        reset_all(in_order(obj.walk()))

    def _user_of(self, obj: Obj) -> str:
        maps = self.assembly.mapped_in(obj)
        if maps:
            return f"mapped at {maps[0].offset:#x} of '{maps[0].space}'"
        return self._link_user(obj)

    def _link_user(self, obj: Obj, besides: Sequence[Obj] = ()) -> str:
        """Who links to an object or its parts, `besides` these; "" if nobody does."""
        parts = list(obj.walk())
        for part in parts:
            for user, name in self.tree.users_of(part):
                if user not in parts and user not in besides:
                    return f"used by '{user.path}', property '{name}'"
        return ""

    def _need_ready(self, command: str) -> None:
        if self.phase != READY:
            raise GenericError(f"The command '{command}' is permitted only after machine initialization has completed")

    def _enter(self, phase: str) -> None:
        self.phase = phase
        self.publish()

    def _teardown(self) -> None:
        self.dumper.close()
        self.clock.stop()
        wedged = self.state.end_threads()
        self.state.status = "shutdown"
        self.publish()
        for obj in reversed(in_order(self.tree.members())):
            # A thread that is still in the guest uses its vCPU and the memory: they are left to the end of the process.
            if not wedged or obj.KIND == "device":
                self.assembly.remove(obj)
        self.jobs.close()
        if self._exports is not None:
            self._exports.close()
        self.blocks.close()
        self.netdevs.close()


def _ignore(name: str, data: dict[str, Any]) -> None:
    pass
