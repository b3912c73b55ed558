"""Device trees: the flattened form, and what a machine tells of itself."""

from __future__ import annotations

import shutil
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from core_kit import Bench
from hypothesis import given, settings
from hypothesis import strategies as st

from ratite.core.fdt import DeviceTree, Node, flatten, parse, size_of
from ratite.core.fdt.tree import group_of
from ratite.qapi.errors import GenericError
from ratite.qapi.fdt import cells

NAMES = st.from_regex(r"[a-z][a-z0-9,._+-]{0,12}", fullmatch=True)


def trees() -> Any:
    def node(inside: Any) -> Any:
        return st.tuples(st.dictionaries(NAMES, st.binary(max_size=20), max_size=4), st.dictionaries(NAMES, inside, max_size=3))

    return st.recursive(node(st.nothing()), node, max_leaves=8)


def made(shape: Any, name: str = "") -> Node:
    node = Node(name)
    for key, value in shape[0].items():
        node[key] = value
    for key, inner in shape[1].items():
        node.children[key] = made(inner, key)
    return node


def plain(node: Node) -> list[tuple[str, dict[str, bytes]]]:
    return [(path, found.props) for path, found in node.walk()]


@settings(max_examples=40, deadline=None)
@given(trees(), st.lists(st.tuples(st.integers(1, 1 << 60), st.integers(1, 1 << 40)), max_size=3))
def test_what_is_flattened_is_read_back(shape: Any, reserved: list[tuple[int, int]]) -> None:
    tree = made(shape)
    blob = flatten(tree, reserved)
    root, found = parse("x", blob)
    assert (plain(root), found) == (plain(tree), reserved)
    names = {name for _, node in tree.walk() for name in node.props}
    shared = [name for name in names if any(other != name and other.endswith(name) for other in names)]
    assert 0 <= size_of(tree, reserved) - len(blob) <= sum(len(name) + 1 for name in shared)


@settings(max_examples=100, deadline=None)
@given(trees(), st.data())
def test_a_damaged_blob_is_refused_or_read_but_never_raises(shape: Any, data: Any) -> None:
    blob = bytearray(flatten(made(shape)))
    for _ in range(data.draw(st.integers(1, 4))):
        blob[data.draw(st.integers(8, len(blob) - 1))] = data.draw(st.integers(0, 255))
    try:
        parse("blob", bytes(blob[: data.draw(st.integers(0, len(blob)))]))
    except GenericError as exc:
        assert exc.desc.startswith("Could not load device tree 'blob': ")


def test_blobs_that_are_none() -> None:
    blob = flatten(made(({"a": b"b"}, {})))
    for damaged, text in (
        (b"", "not a flattened device tree"),
        (b"\x7fELF" + bytes(100), "not a flattened device tree"),
        (blob[:-1], "it is truncated"),
        (blob[:20] + struct.pack(">II", 3, 2) + blob[28:], "it is of version 3"),
        (blob[:8] + struct.pack(">I", 1 << 30) + blob[12:], "the device tree is damaged"),
    ):
        with pytest.raises(GenericError, match=text):
            parse("x", damaged)


def test_values() -> None:
    node = Node()
    node["a"], node["b"], node["c"], node["d"], node["e"] = 1, "x", ("x", "yz"), [1, 2], True
    node["f"] = b"raw"
    node["a"] = 2
    node["f"] = False
    expected = {"a": bytes((0, 0, 0, 2)), "b": b"x\0", "c": b"x\0yz\0", "d": bytes((0, 0, 0, 1, 0, 0, 0, 2)), "e": b""}
    assert node.props == expected
    assert cells(0x123456789, 2) == [1, 0x23456789] and cells(5, 1) == [5]
    with pytest.raises(ValueError, match="is no name of a node"):
        node.child("a/b")


def test_the_package_may_be_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "fdt", None)
    with pytest.raises(GenericError, match="the Python package 'fdt' is missing"):
        flatten(Node())


@pytest.fixture
def bench() -> Iterator[Bench]:
    made = Bench()
    yield made
    made.machine.close()


def tree_of(bench: Bench, cpu: str = "cpu0") -> Node:
    return bench.call(lambda: DeviceTree(bench.machine, group_of(bench.cpu(cpu))).build())


def words(value: bytes) -> list[int]:
    return list(struct.unpack(f">{len(value) // 4}I", value))


def test_memory_is_what_one_guest_has_for_itself(bench: Bench) -> None:
    mib = 1 << 20
    bench.basic()
    bench.create_object("address-space", "other", {})
    bench.create_object("cpu-cluster", "cl2", {"target": "fakebe", "address-space": "other"})
    bench.device_add("fake-cpu", "be0", {"cluster": "cl2"})
    for id, size, mem, other in (
        ("a", 2 * mib, 0x1000000, None), ("b", mib, 0x1200000, None), ("small", 0x80000, 0x2000000, None),
        ("shared", 4 * mib, 0x9000000, 0x9000000), ("high", mib, 0x100000000, None), ("theirs", mib, None, 0x3000000),
        ("rom", mib, 0xA000000, None),
    ):  # fmt: skip
        bench.create_object("memory-backend-ram", id, {"size": size, "readonly": id == "rom"})
        for space, at in ("mem", mem), ("other", other):
            if at is not None:
                bench.map_region(space, id, at)
    bench.wire()
    root = tree_of(bench)
    memory = {name: words(node["reg"]) for name, node in root.children.items() if name.startswith("memory")}
    assert memory == {"memory@1000000": [0, 0x1000000, 0, 3 * mib], "memory@100000000": [1, 0, 0, mib]}
    assert words(root["#address-cells"]) == [2]
    memory = {name: words(node["reg"]) for name, node in tree_of(bench, "be0").children.items() if name.startswith("memory")}
    assert memory == {"memory@3000000": [0, 0x3000000, 0, mib]}


def test_interrupts_follow_the_wires(bench: Bench) -> None:
    from ratite.hw.char.ns16550 import Ns16550
    from ratite.hw.intc.xlnx_intc import XlnxIntc
    from ratite.hw.irq.or_irq import OrIrq
    from ratite.hw.irq.split_irq import SplitIrq

    for cls in (Ns16550, XlnxIntc, OrIrq, SplitIrq):
        bench.machine.registry.register(cls)
    bench.basic()
    for n, intc in enumerate(("i0", "i1", "elsewhere")):
        bench.device_add("xlnx.xps-intc", intc, {"kind-of-intr": 2})
        if intc != "elsewhere":
            bench.map_region("mem", intc, 0x200000 + 0x1000 * n)
    for n in range(4):
        bench.device_add("ns16550", f"u{n}", {"regshift": 2, "endianness": "big"})
        bench.map_region("mem", f"u{n}", 0x300000 + 0x1000 * n)
    bench.device_add("split-irq", "s", {"num-lines": 3})
    bench.device_add("or-irq", "o", {"num-lines": 2})
    for wire in (
        ("u0", "irq", "s", "in"), ("s", "out[0]", "i0", "irq[1]"), ("s", "out[1]", "o", "in[0]"), ("u1", "irq", "o", "in[1]"),
        ("s", "out[2]", "elsewhere", "irq[0]"), ("o", "out", "i1", "irq[3]"), ("u2", "irq", "elsewhere", "irq[5]"),
    ):  # fmt: skip
        bench.wire_irq(*wire)
    bench.wire()
    root = tree_of(bench)
    soc = root.children["soc"].children
    i0, i1 = (words(soc[f"interrupt-controller@20{n}000"]["phandle"]) for n in range(2))
    serial = [soc[f"serial@30{n}000"] for n in range(4)]
    assert words(serial[0]["interrupts-extended"]) == [*i0, 1, 0, *i1, 3, 2]
    assert (words(serial[1]["interrupt-parent"]), words(serial[1]["interrupts"])) == (i1, [3, 2])
    assert not [name for node in serial[2:] for name in node.props if name.startswith("interrupt")]
    assert (words(serial[0]["reg-shift"]), words(serial[0]["reg-offset"])) == ([2], [3])
    assert root.children["aliases"]["serial1"] == b"/soc/serial@301000\0"
    assert root.children["chosen"]["stdout-path"] == b"/soc/serial@300000\0"


@pytest.mark.peer
def test_dtc_takes_it(bench: Bench, tmp_path: Path) -> None:
    dtc = shutil.which("dtc")
    if dtc is None:
        pytest.skip("dtc is not installed")
    bench.basic()
    bench.wire()
    (tmp_path / "x.dtb").write_bytes(flatten(tree_of(bench)))
    done = subprocess.run([dtc, "-I", "dtb", tmp_path / "x.dtb"], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("/dts-v1/;") and done.stderr == ""
