"""NUMA nodes, by options and by set-numa-node."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import pytest
from personality_kit import Shims

from ratite.clients.qmp import Client, CommandError
from ratite.qapi.fdt import Node, parse

MEMORIES = ("-object", "memory-backend-ram,id=m0,size=64M", "-object", "memory-backend-ram,id=m1,size=64M")
ELF = Path(__file__).parents[1] / "guests" / "elf" / "echo.rv64.elf"
VIRT = ("-M", "virt", "-bios", "none", "-nodefaults", "-display", "none", "-m", "128", "-accel", "interp")
TWO = ("-numa", "node,memdev=m0", "-numa", "node,nodeid=1,memdev=m1")


def near(tree: Node) -> dict[str, int]:
    """The node of everything that says one."""
    return {
        path.rpartition("/")[2]: struct.unpack(">I", node.props["numa-node-id"])[0]
        for path, node in tree.walk() if "numa-node-id" in node.props
    }  # fmt: skip


def nodes_of(qmp: Client) -> list[int]:
    return [row["props"]["node-id"] for row in qmp.execute("query-cpus-fast")]


def test_the_tree_says_what_is_near(shims: Shims, tmp_path: Path) -> None:
    words = [*MEMORIES, *TWO, "-numa", "dist,src=0,dst=1,val=33", "-smp", "4", "-M", "dumpdtb=tree", "-bios", str(ELF)]
    done = shims.run("riscv64", *VIRT, *words)
    assert done.returncode == 0, done.stderr
    tree, _ = parse("tree", (shims.place / "tree").read_bytes())
    assert near(tree) == {"memory@80000000": 0, "memory@84000000": 1, "cpu@0": 0, "cpu@1": 0, "cpu@2": 1, "cpu@3": 1}
    distances = next(node for path, node in tree.walk() if path.endswith("distance-map"))
    assert struct.unpack(">12I", distances.props["distance-matrix"]) == (0, 0, 10, 0, 1, 33, 1, 0, 33, 1, 1, 10)


def test_by_options(shims: Shims) -> None:
    cpus = ("-numa", "node,memdev=m1,cpus=0,cpus=2-3", "-numa", "node,memdev=m0", "-numa", "cpu,node-id=1,core-id=1")
    _, qmp = shims.start("riscv64", *VIRT, *MEMORIES, *cpus, "-smp", "5", "-S")
    with qmp:
        assert nodes_of(qmp) == [0, 1, 0, 0, 1]
        lines = qmp.execute("human-monitor-command", {"command-line": "info numa"}).splitlines()
        assert lines == [
            "2 nodes", "node 0 cpus: 0 2 3", "node 0 size: 64 MB", "node 0 plugged: 0 MB",
            "node 1 cpus: 1 4", "node 1 size: 64 MB", "node 1 plugged: 0 MB",
        ]  # fmt: skip
        ram = [row["id"] for row in qmp.execute("query-memdev")]
        assert sorted(ram) == ["m0", "m1"] and qmp.execute("query-memory-size-summary")["base-memory"] == 128 << 20
        mtree = qmp.execute("human-monitor-command", {"command-line": "info mtree -f"})
        assert mtree.index("0000000080000000") < mtree.index("m1") < mtree.index("0000000084000000") < mtree.index("m0")
        with pytest.raises(CommandError, match="permitted only before the machine has been created"):
            qmp.execute("set-numa-node", {"type": "node"})


def test_by_commands(shims: Shims) -> None:
    _, qmp = shims.start("riscv64", *VIRT, *MEMORIES, "-smp", "2", "-preconfig", "-S")

    def refusal(command: str, **arguments: Any) -> str:
        with pytest.raises(CommandError) as caught:
            qmp.execute(command, arguments)
        return caught.value.desc

    with qmp:
        qmp.execute("set-numa-node", {"type": "node", "memdev": "m0"})
        node = {"type": "node", "nodeid": 1}
        for given, words in (
            ({**node, "memdev": "zz"}, "memdev=zz is ambiguous"),
            ({**node, "memdev": "m0"}, "memory backend m0 can't be used multiple times."),
            ({**node, "nodeid": 0}, "Duplicate NUMA nodeid: 0"),
            ({**node, "nodeid": 200}, "Max number of NUMA nodes reached: 200"),
            ({**node, "cpus": [9]}, "CPU index (9) should be smaller than maxcpus (2)"),
            ({"type": "cpu", "core-id": 0}, "Missing mandatory node-id property"),
            ({"type": "dist", "src": 0, "dst": 7, "val": 20}, "Source/Destination NUMA node is missing. Please use "
             "'-numa node' option to declare it first."),
            ({"type": "dist", "src": 0, "dst": 0, "val": 20}, "Local distance of node 0 should be 10."),
            ({"type": "dist", "src": 0, "dst": 0, "val": 5}, "NUMA distance (5) is invalid, it shouldn't be less than 10."),
            ({"type": "cpu", "node-id": 1, "core-id": 0}, "Invalid node-id=1, NUMA node must be defined with -numa "
             "node,nodeid=ID before it's used with -numa cpu,node-id=1"),
        ):  # fmt: skip
            assert refusal("set-numa-node", **given) == words
        assert refusal("x-exit-preconfig") == "total memory for NUMA nodes (0x4000000) should equal RAM size (0x8000000)"
        assert refusal("x-exit-preconfig").startswith("total memory"), "the machine is as it was"
        qmp.execute("set-numa-node", {**node, "memdev": "m1", "cpus": [0]})
        assert refusal("set-numa-node", type="cpu", **{"node-id": 0, "core-id": 0}) == "CPU is already assigned to node-id: 1"
        qmp.execute("x-exit-preconfig")
        assert nodes_of(qmp) == [1, 1]
        assert sorted(row["id"] for row in qmp.execute("query-memdev")) == ["m0", "m1"]


@pytest.mark.parametrize(("words", "why"), [
    ((*TWO, "-numa", "node,nodeid=3"), "numa: Node ID missing: 2"),
    (("-numa", "node,memdev=m0", "-numa", "node"), "total memory for NUMA nodes (0x4000000) should equal RAM size (0x8000000)"),
    (("-numa", "node,mem=64M"), "-numa node,mem=64M: mem: a node's memory is an object, named by memdev"),
    (("-numa", "node,cpus=x"), "-numa node,cpus=x: Parameter 'cpus' expects an uint16 value or range"),
    (("-numa", "hmat-lb,initiator=0"), "-numa hmat-lb,initiator=0: Parameter 'type' does not accept value 'hmat-lb'"),
    ((*TWO, "-M", "memory-backend=m0"), "'-machine memory-backend' and '-numa memdev' properties are mutually exclusive"),
    (("-M", "none", "-numa", "node"), "NUMA is not supported by this machine-type"),
])  # fmt: skip
def test_what_can_not_be(shims: Shims, words: tuple[str, ...], why: str) -> None:
    done = shims.run("riscv64", *VIRT, *MEMORIES, *words)
    assert done.returncode == 1 and done.stderr.rstrip().endswith(why)


def test_boards_without_nodes(shims: Shims) -> None:
    done = shims.run("microblaze", "-M", "petalogix-s3adsp1800", "-nodefaults", "-numa", "node")
    assert done.returncode == 1 and "NUMA is not supported by this machine-type" in done.stderr
