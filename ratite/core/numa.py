"""NUMA nodes of a guest: which memory and which CPUs are near each other, as set-numa-node says; the device tree tells it.

A node's memory is a memory backend.  Where the machine's type says which RAM it has, the nodes' memories stand in its place,
one behind the other by number; else they are seen where they are mapped.  A CPU that nobody gave a node gets one by its number:
the first CPUs the first node, in equal shares.

Left out: tables of latencies and caches (HMAT), nodes whose memory is only a size.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from ratite.core.assembly import READY
from ratite.qapi.errors import GenericError

if TYPE_CHECKING:
    from ratite.core.cpu.base import Cpu
    from ratite.core.machine import Machine
    from ratite.core.memory.regions import Region

NODES = 128
LOCAL, REMOTE = 10, 20


class MainRam(NamedTuple):
    """The RAM of a machine type: its object, if that is made; where it is, and its bytes."""

    id: str
    space: str
    offset: int
    size: int


class Numa:
    """The nodes of one machine.  On the owner's side."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        # By node: id of its memory, "" for none; by CPU's number: its node; by (from, to).
        self.nodes: dict[int, str] = {}
        self._cpus: dict[int, int] = {}
        self._distances: dict[tuple[int, int], int] = {}
        # What the machine's type says of itself: whether there may be nodes, and its RAM.
        self.supported = True
        self.main_ram: MainRam | None = None

    # -- clients

    def add_node(self, number: int | None, memdev: str, cpus: Sequence[int]) -> None:
        """set-numa-node of a node; GenericError."""
        self._check()
        number = len(self.nodes) if number is None else number
        if number >= NODES:
            raise GenericError(f"Max number of NUMA nodes reached: {number}")
        if number in self.nodes:
            raise GenericError(f"Duplicate NUMA nodeid: {number}")
        if memdev:
            found = self._machine.tree.objects.children.get(memdev)
            if found is None or not found.is_a("memory-backend"):
                raise GenericError(f"memdev={memdev} is ambiguous")
            if memdev in self.nodes.values():
                raise GenericError(f"memory backend {memdev} can't be used multiple times.")
        count = self._count()
        for cpu in cpus:
            if cpu >= count:
                raise GenericError(f"CPU index ({cpu}) should be smaller than maxcpus ({count})")
            self._check_free(cpu)
        self.nodes[number] = memdev
        self._cpus |= dict.fromkeys(cpus, number)

    def set_distance(self, source: int, target: int, value: int) -> None:
        """set-numa-node of a distance; GenericError."""
        self._check()
        if source not in self.nodes or target not in self.nodes:
            raise GenericError(
                "Source/Destination NUMA node is missing. Please use '-numa node' option to declare it first."
            )
        if value < LOCAL:
            raise GenericError(f"NUMA distance ({value}) is invalid, it shouldn't be less than {LOCAL}.")
        if source == target and value != LOCAL:
            raise GenericError(f"Local distance of node {source} should be {LOCAL}.")
        self._distances[source, target] = value

    def set_cpu(self, number: int, place: Mapping[str, int]) -> None:
        """set-numa-node of a CPU by its place, which has a core's number alone; GenericError."""
        self._check()
        if number not in self.nodes:
            raise GenericError(
                f"Invalid node-id={number}, NUMA node must be defined with -numa node,nodeid=ID before it's used with "
                f"-numa cpu,node-id={number}"
            )
        core = place.get("core-id", -1)
        if set(place) != {"core-id"} or not 0 <= core < self._count():
            raise GenericError("no match found")
        self._check_free(core)
        self._cpus[core] = number

    def _check(self) -> None:
        if self._machine.phase == READY:
            raise GenericError("The command is permitted only before the machine has been created")
        if not self.supported:
            raise GenericError("NUMA is not supported by this machine-type")

    def _check_free(self, cpu: int) -> None:
        if cpu in self._cpus:
            raise GenericError(f"CPU is already assigned to node-id: {self._cpus[cpu]}")

    def _count(self) -> int:
        return sum(obj.KIND == "cpu" for obj in self._machine.tree.members())

    # -- the machine

    def settle(self) -> None:
        """Nothing more is said: check it, and put the nodes' memories in the place of the machine's RAM; GenericError."""
        machine, ram = self._machine, self.main_ram
        if not self.nodes:
            return
        for number in range(max(self.nodes)):
            if number not in self.nodes:
                raise GenericError(f"numa: Node ID missing: {number}")
        if ram is None:
            return
        sizes = {name: self._size(name) for _, name in sorted(self.nodes.items()) if name}
        if sum(sizes.values()) != ram.size:
            raise GenericError(
                f"total memory for NUMA nodes ({sum(sizes.values()):#x}) should equal RAM size ({ram.size:#x})"
            )
        if ram.id in machine.tree.objects.children:
            machine.unmap_region(ram.space, ram.id, ram.offset)
            machine.delete_object(ram.id)
        offset = ram.offset
        for name, size in sizes.items():
            machine.map_region(ram.space, name, offset)
            offset += size
        self.main_ram = None

    def _size(self, name: str) -> int:
        size: int = self._machine.tree.objects.children[name].get_property("size")
        return size

    # -- who asks

    def node_of_cpu(self, cpu: Cpu) -> int | None:
        """The CPU's node; None where there are none."""
        if not self.nodes:
            return None
        cpus = self._machine.cpus()
        number = next((number for number, other in cpus.items() if other is cpu), 0)
        return self._cpus.get(number, number * len(self.nodes) // max(len(cpus), 1))

    def node_of_memory(self, region: Region) -> int | None:
        """The node whose memory it is; None for nobody's."""
        objects = self._machine.tree.objects.children
        for number, name in self.nodes.items():
            if name and getattr(objects.get(name), "ram", None) is region:
                return number
        return None

    def distances(self) -> list[tuple[int, int, int]]:
        """(from, to, distance) of all nodes; nothing where nobody has said one.  One way is as long as the other."""
        if not self._distances:
            return []
        return [
            (a, b, LOCAL if a == b else self._distances.get((a, b), self._distances.get((b, a), REMOTE)))
            for a in sorted(self.nodes) for b in sorted(self.nodes)
        ]  # fmt: skip

    def rows(self) -> list[dict[str, Any]]:
        """For people: each node's CPUs and bytes."""
        cpus = [(number, self.node_of_cpu(cpu)) for number, cpu in self._machine.cpus().items()]
        return [
            {"node": node, "cpus": [number for number, of in cpus if of == node], "size": self._size(name) if name else 0}
            for node, name in sorted(self.nodes.items())
        ]
