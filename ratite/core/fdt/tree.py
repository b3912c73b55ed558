"""The device tree of one guest, from the machine as it is assembled: nothing here knows a board.

A guest is the CPUs of one target that see one address space.  Its tree has

    /cpus          every CPU of the guest, as its type describes itself
    /memory@…      RAM of the view of at least RAM_MIN bytes that no other guest sees, each NUMA node's by itself
    /soc           devices with a region in the view, each described by its type, by address
    /aliases       serial0, … in the order of their addresses;  /chosen: stdout-path is the first

A type describes itself by `FDT = Described("rtc", "google,goldfish-rtc")`, and by `fdt_node(self, tree)` where that isn't
enough; a type without either isn't in the tree.  Interrupts follow the wires, through or-irq and split-irq, to whatever can say
by `fdt_interrupt(end)` how its input is written in a tree.

Smaller RAM (block RAM, scratch pads) and RAM that two guests see isn't memory that a guest may use as it likes: it has no node.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

from ratite.qapi.fdt import Node, cells, flatten

if TYPE_CHECKING:
    from ratite.core.cpu.base import Cpu
    from ratite.core.device import Device
    from ratite.core.irq import Input, Output
    from ratite.core.machine import Machine
    from ratite.core.memory.space import Space
    from ratite.core.objects.obj import Obj

Pair = tuple[int, int]
RAM_MIN = 1 << 20


class Described(NamedTuple):
    """What suffices for most devices: the node's name and `compatible`; reg and interrupts come by themselves."""

    name: str
    compatible: tuple[str, ...]


class Window(NamedTuple):
    """A region of a device as the guest sees it."""

    name: str
    address: int
    size: int


class DeviceTree:
    """See the module's head.  What hooks use: node, windows, devices, reg, targets, extended, phandle, root, cpus_node, soc."""

    def __init__(self, machine: Machine, cpus: Iterable[Cpu]) -> None:
        self.machine = machine
        self.cpus = list(cpus)
        self.space: Space = self.cpus[0].cluster.space
        self._windows = self._find_windows()
        self.memory = list(self._find_memory())
        wide = self.cpus[0].cluster.bits > 32 or any(end > 1 << 32 for _, end, _ in self.memory)
        self.address_cells = 2 if wide else 1
        self.root = Node()
        self.cpus_node = Node("cpus")
        self.soc = Node("soc")
        # What the guest sees, by address.
        self.devices = self._find_devices()
        self._nodes: dict[int, Node] = {}
        self._phandles: dict[int, int] = {}
        self._serials: list[str] = []

    # -- building

    def build(self) -> Node:
        """The whole tree."""
        root = self.root
        root["#address-cells"] = root["#size-cells"] = self.address_cells
        root["compatible"] = self.cpus[0].FDT_MACHINE
        root["model"] = f"ratite,{self.machine.name}"
        for name in ("chosen", "aliases"):
            root.child(name)
        for start, end, near in self.memory:
            node = root.child(f"memory@{start:x}")
            node["device_type"] = "memory"
            node["reg"] = self.reg((start, end - start))
            self._place(node, near)
        root.children["cpus"], root.children["soc"] = self.cpus_node, self.soc
        self.cpus_node["#address-cells"], self.cpus_node["#size-cells"] = 1, 0
        self.soc["#address-cells"] = self.soc["#size-cells"] = self.address_cells
        self.soc["compatible"] = "simple-bus"
        self.soc["ranges"] = True
        numa = self.machine.numa
        for cpu in self.cpus:
            before = set(self.cpus_node.children)
            cpu.fdt_node(self)
            for name, node in self.cpus_node.children.items():
                if name not in before:
                    self._place(node, numa.node_of_cpu(cpu))
        if distances := numa.distances():
            matrix = root.child("distance-map")
            matrix["compatible"] = "numa-distance-map-v1"
            matrix["distance-matrix"] = [number for row in distances for number in row]
        for device in self.devices:
            device.fdt_node(self)
        for number, path in enumerate(self._serials):
            root.child("aliases")[f"serial{number}"] = path
        if self._serials:
            root.child("chosen")["stdout-path"] = self._serials[0]
        for key, handle in self._phandles.items():
            self._nodes[key]["phandle"] = handle
        for _, node in root.walk():
            if "interrupt-controller" in node and "#address-cells" not in node:
                node["#address-cells"] = 0  # else who reads an interrupt-map has to guess
        return root

    @staticmethod
    def _place(node: Node, near: int | None) -> None:
        if near is not None:
            node["numa-node-id"] = near

    # -- for those who describe themselves

    def node(
        self,
        device: Device,
        name: str,
        compatible: Iterable[str] = (),
        *,
        windows: Iterable[str] = (),
        reg: Iterable[Pair] = (),
    ) -> Node:
        """A node for the device under /soc, at its first window, with reg and interrupts.

        `windows`: only these, so ordered; `reg`: instead of them, (address, size) of pieces of them.
        """
        seen = self.windows(device)
        if windows:
            seen = [window for wanted in windows for window in seen if window.name == wanted]
        pairs = tuple(reg) or tuple((window.address, window.size) for window in seen)
        node = self.soc.child(f"{name}@{pairs[0][0]:x}")
        if compatible:
            node["compatible"] = tuple(compatible)
        node["reg"] = self.reg(*pairs)
        self.interrupts(node, device.all_outputs())
        self.register(device, node)
        return node

    def register(self, obj: Obj, node: Node) -> None:
        """`phandle(obj)` means this node."""
        self._nodes[id(obj)] = node

    def serial(self, node: Node) -> None:
        """The node is a serial line under /soc: it gets an alias, the first is where consoles are."""
        self._serials.append(f"/soc/{node.name}")

    def windows(self, device: Obj) -> list[Window]:
        """The device's regions that the guest sees, by address."""
        return self._windows.get(id(device), [])

    def reg(self, *pairs: Pair) -> list[int]:
        """(address, size) pairs as cells."""
        return [cell for pair in pairs for number in pair for cell in cells(number, self.address_cells)]

    def phandle(self, obj: Obj) -> int:
        """A number for the object's node, which must be in the tree when it is done."""
        return self._phandles.setdefault(id(obj), len(self._phandles) + 1)

    def visible(self, obj: Obj) -> bool:
        """Whether the object is a CPU of this guest, or a device that it sees."""
        return any(obj is cpu for cpu in self.cpus) or id(obj) in self._windows

    def targets(self, output: Output) -> Iterator[tuple[Obj, list[int]]]:
        """(controller, specifier) of every controller of this guest that the line reaches."""
        seen: set[int] = set()
        todo = [output]
        while todo:
            end: Input | None = todo.pop(0).peer
            if end is None or id(end) in seen:
                continue
            seen.add(id(end))
            specifier = end.owner.fdt_interrupt(end)
            if specifier is not None and self.visible(end.owner):
                yield end.owner, list(specifier)
            todo.extend(end.owner.passes_on(end))

    def extended(self, outputs: Iterable[Output]) -> list[int]:
        """What the lines reach, as `interrupts-extended` has it."""
        return [
            cell for line in outputs for owner, specifier in self.targets(line) for cell in (self.phandle(owner), *specifier)
        ]

    def interrupts(self, node: Node, outputs: Iterable[Output]) -> None:
        """Interrupt properties of the node for these lines."""
        reached = [target for line in outputs for target in self.targets(line)]
        owners = {id(owner) for owner, _ in reached}
        if len(owners) == 1:
            node["interrupt-parent"] = self.phandle(reached[0][0])
            node["interrupts"] = [cell for _, specifier in reached for cell in specifier]
        elif reached:
            node["interrupts-extended"] = [cell for owner, cells in reached for cell in (self.phandle(owner), *cells)]

    # -- what the guest sees

    def _find_windows(self) -> dict[int, list[Window]]:
        found: dict[int, list[Window]] = {}
        for owner, window in self.machine.assembly.mapped_into(self.space):
            found.setdefault(id(owner), []).append(Window(*window))
        for windows in found.values():
            windows.sort(key=lambda window: window.address)
        return found

    def _find_devices(self) -> list[Device]:
        devices = [obj for obj in self.machine.tree.members() if obj.KIND == "device" and id(obj) in self._windows]
        return sorted(devices, key=lambda obj: (self.windows(obj)[0].address, obj.path))  # type: ignore[arg-type]

    def _find_memory(self) -> Iterator[tuple[int, int, int | None]]:
        """(start, end, NUMA node)."""
        others: set[int] = set()
        for obj in self.machine.tree.members():
            if obj.is_a("cpu-cluster") and getattr(obj, "address_space", None) not in (None, self.space):
                others.update(id(piece.region) for piece in obj.space.view.ranges)  # type: ignore[attr-defined]
        start = end = 0
        near = None
        for piece in self.space.view.ranges:
            if not piece.region.IS_RAM or piece.readonly or id(piece.region) in others:
                continue
            node = self.machine.numa.node_of_memory(piece.region)
            if piece.start != end or node != near:
                if end - start >= RAM_MIN:
                    yield start, end, near
                start, near = piece.start, node
            end = piece.end
        if end - start >= RAM_MIN:
            yield start, end, near


def group_of(cpu: Cpu) -> list[Cpu]:
    """The CPUs of the guest that `cpu` belongs to, itself among them: those of its target that see its address space."""
    cluster = cpu.cluster
    found: list[Any] = []
    for obj in cpu.machine.tree.members():
        if obj.KIND == "cpu" and obj.phase in ("wired", "realized"):
            other = obj.cluster  # type: ignore[attr-defined]
            if other.space is cluster.space and other.target == cluster.target:
                found.append(obj)
    return sorted(found, key=lambda obj: (obj.fdt_number(), obj.path))


def blob_of(cpu: Cpu) -> bytes:
    """The device tree of the CPU's guest, flattened: what it boots with, or would."""
    boots = (member.boot for member in (cpu, *group_of(cpu)) if member.boot is not None)
    boot = next(boots, None)
    return boot.tree() if boot is not None else flatten(DeviceTree(cpu.machine, group_of(cpu)).build())
