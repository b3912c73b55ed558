"""Stream instructions on tier 0's and compiled code, and CPUs linked by FIFOs in a machine driven over QMP."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ratite.clients.qmp import Client, CommandError, DaemonProcess
from ratite.core.engine.native import NativeLibrary
from ratite.core.engine.region.manager import RegionManager
from ratite.core.isa.isa import Isa
from ratite.targets.microblaze.isa import build
from ratite.targets.microblaze.stream import ANSWER_VALID, LINE_GET, LINE_PUT
from tests.engine.lockstep import Eager, Pair
from tests.oracle.microblaze_evaluator import ISA, Port

FULL: dict[str, object] = {"fsl-links": 2, "use-extended-fsl-instr": True, "fsl-exception": True}
FINISHER, DONE = 0x100000, 0x5555


class Answering(Port):
    """Has a word for each get and takes each put."""

    def on_ask(self, number: int, value: int) -> int:
        return super().on_ask(number, value) | 1 << ANSWER_VALID | 1


@pytest.mark.parametrize("tier", [0, 1, 2])
@pytest.mark.parametrize("big", [True, False])
def test_a_loop_agrees_in_every_tier(big: bool, tier: int) -> None:
    config = {**FULL, "big": big}
    native = NativeLibrary().get(ISA, config)
    isa = native.isa
    pair = Pair(isa, native, lambda ram: Answering(ram, config), 0x7000, RegionManager(Eager(tier)) if tier else None)
    code = [
        isa.assemble("get", rd=5, link=0), isa.assemble("addk", rd=6, ra=6, rb=5), isa.assemble("ncaput", ra=6, link=1),
        isa.assemble("addc", rd=7, ra=7, rb=0), isa.assemble("tnegetd", rd=8, rb=6), isa.assemble("addik", rd=9, ra=9, imm=-1),
        isa.assemble("bneid", ra=9, imm=-24), isa.assemble("nput", ra=8, link=0)]
    pair.write(0x1000, b"".join(code))
    try:
        pair.start(0x1000, {("r", 9): 300})
        for ready in (0, 1, 1):
            for cpu in pair.both:
                cpu.set("irq_lines", ready * (1 << LINE_GET | 3 << LINE_PUT))
            pair.step(900)
        assert pair.left.get("r", 9) < 300 and (not tier or pair.right.compiled_instructions > 100)
        pair.compare_memory()
    finally:
        pair.close()


class Board:
    """Named MicroBlazes (name -> byte order), each with 64 KiB of RAM, a program and the finisher, in one machine."""

    def __init__(self, folder: Path, accel: str = "jit", **orders: bool) -> None:
        self.folder = folder
        self.daemon = DaemonProcess(folder / "qmp", "--no-shutdown")
        self.qmp = Client.connect(self.daemon.address, timeout=300)
        self.isas = {name: build({**FULL, "big": big}) for name, big in orders.items()}
        self.qmp.execute("machine-create")
        self.run = self.qmp.execute
        for name, big in orders.items():
            target = "microblaze" if big else "microblazeel"
            self.run("object-add", {"qom-type": "address-space", "id": f"{name}-view"})
            self.run("object-add", {"qom-type": "memory-backend-ram", "id": f"{name}-ram", "size": 0x10000})
            self.run("map-region", {"space": f"{name}-view", "region": f"{name}-ram", "offset": 0})
            self.run("object-add", {"qom-type": "cpu-cluster", "id": f"{name}-cluster", "target": target, "accel": accel,
                                    "address-space": f"{name}-view"})
        self.run("device_add", {"driver": "riscv.sifive.test", "id": "finisher"})

    def cpu(self, name: str, *code: bytes, **props: Any) -> None:
        image = self.folder / f"{name}.bin"
        image.write_bytes(b"".join(code))
        self.run("map-region", {"space": f"{name}-view", "region": "finisher", "offset": FINISHER})
        self.run("device_add", {"driver": "microblaze-cpu", "id": name, "cluster": f"{name}-cluster", "image-raw": str(image),
                                **FULL, **props})

    def fifo(self, id: str, source: str, sink: str, **props: Any) -> None:
        self.run("device_add", {"driver": "xlnx.axis-data-fifo", "id": id, "source": source, "sink": sink, **props})

    def get(self, name: str, what: str) -> Any:
        return self.run("qom-get", {"path": f"/machine/peripheral/{name}", "property": what})

    def until(self, name: str, what: str, value: Any) -> None:
        """Asks until the property has the value; the client's time-out is the limit."""
        for _ in range(1_000_000):
            if self.get(name, what) == value:
                return
        pytest.fail(f"{name}.{what} must become {value!r}, it is {self.get(name, what)!r}")

    def close(self) -> None:
        self.qmp.close()
        self.daemon.stop()


@pytest.fixture
def board(tmp_path: Path) -> Iterator[Any]:
    made: list[Board] = []

    def make(accel: str = "jit", **orders: bool) -> Board:
        made.append(Board(tmp_path, accel, **orders))
        return made[0]

    yield make
    made[0].close()


def constant(isa: Isa, register: int, value: int) -> bytes:
    low = (value & 0xFFFF) - (value << 1 & 0x10000)
    return isa.assemble("imm", imm=(value >> 16) - (value >> 15 & 0x10000)) + isa.assemble("addik", rd=register, ra=0, imm=low)


def power_off(isa: Isa) -> bytes:
    """The finisher is a little-endian device."""
    store = isa.assemble("swr" if isa.big_endian else "sw", rs=21, ra=20, rb=0)
    return constant(isa, 20, FINISHER) + constant(isa, 21, DONE) + store + isa.assemble("bri", imm=0)


def adder(isa: Isa, count: int) -> bytes:
    """Takes ``count`` words from link 0 and gives their sum, as a control word, to link 1."""
    return b"".join((
        isa.assemble("addik", rd=9, ra=0, imm=count), isa.assemble("get", rd=5, link=0),
        isa.assemble("addk", rd=6, ra=6, rb=5), isa.assemble("addik", rd=9, ra=9, imm=-1), isa.assemble("bnei", ra=9, imm=-12),
        isa.assemble("cput", ra=6, link=1), isa.assemble("bri", imm=0)))


def counter(isa: Isa, count: int) -> bytes:
    """Gives ``count``, ``count`` - 1 … 1 to link 0, takes a control word from link 1 into r7 and ends the machine."""
    return b"".join((
        isa.assemble("addik", rd=9, ra=0, imm=count), isa.assemble("put", ra=9, link=0),
        isa.assemble("addik", rd=9, ra=9, imm=-1), isa.assemble("bnei", ra=9, imm=-8),
        isa.assemble("cget", rd=7, link=1), power_off(isa)))


@pytest.mark.parametrize("accel", ["jit", "interp"])
def test_two_byte_orders_over_two_links(board: Any, accel: str) -> None:
    """More words than the FIFO holds, so that both ends wait for each other; a word is the same number at both ends."""
    b = board(accel, big=True, little=False)
    count = 1000 if accel == "jit" else 100
    b.cpu("big", counter(b.isas["big"], count))
    b.cpu("little", adder(b.isas["little"], count))
    b.fifo("there", "big", "little")
    b.fifo("back", "little", "big", **{"source-port": 1, "sink-port": 1})
    b.run("x-exit-preconfig")
    b.qmp.wait_event("SHUTDOWN", timeout=300)
    assert b.get("big", "r7") == count * (count + 1) // 2 and b.get("big", "msr") & 0x10 == 0
    assert (b.get("there", "passed"), b.get("there", "words"), b.get("back", "passed")) == (count, 0, 1)


def test_a_cpu_linked_to_itself(board: Any) -> None:
    b = board(cpu=True)
    isa = b.isas["cpu"]
    b.cpu("cpu", constant(isa, 5, 0xDEADBEEF), isa.assemble("cput", ra=5, link=0), isa.assemble("cget", rd=7, link=1),
          power_off(isa))
    b.fifo("loop", "cpu", "cpu", **{"sink-port": 1})
    b.run("x-exit-preconfig")
    b.qmp.wait_event("SHUTDOWN", timeout=300)
    assert b.get("cpu", "r7") == 0xDEADBEEF


@pytest.mark.parametrize("accel", ["jit", "interp"])
def test_waiting_for_ever_disturbs_nobody(board: Any, accel: str) -> None:
    """Stop, registers, cont, reset, a client's word into the FIFO and the end of the daemon, all while a get waits."""
    b = board(accel, cpu=False)
    isa = b.isas["cpu"]
    b.cpu("cpu", isa.assemble("nget", rd=6, link=0), isa.assemble("get", rd=5, link=0), isa.assemble("bri", imm=0))
    b.fifo("loop", "cpu", "cpu")
    b.run("x-exit-preconfig")
    for _ in range(3):
        b.until("cpu", "asleep", True)
        b.until("cpu", "activity", "halted")
        executed = b.get("cpu", "instructions")
        b.run("stop")
        assert (b.get("cpu", "pc"), b.get("cpu", "asleep"), b.get("cpu", "msr") & 4) == (4, True, 4)
        b.run("cont")
        b.run("query-cpus-fast")
        assert b.get("cpu", "instructions") == executed
        b.run("system_reset")
    b.until("cpu", "activity", "halted")
    b.run("quit")


@pytest.mark.parametrize(("driver", "props", "message"), [
    ("xlnx.axis-data-fifo", {"source-port": 2}, "has 2 stream ports, numbered from 0, there is no master port 2"),
    ("xlnx.axis-data-fifo", {"sink": "other"}, "slave port 0 of '/machine/peripheral/cpu' is already linked"),
    ("xlnx.axis-data-fifo", {"sink": "finisher"}, "finisher"),
    ("xlnx.axis-data-fifo", {"depth": 24}, "must be a power of two, not 24"),
    ("xlnx.axis-data-fifo", {"sink": "none"}, "has no stream ports, there is no slave port 0"),
])
def test_links_that_cannot_be(board: Any, driver: str, props: dict[str, Any], message: str) -> None:
    b = board(cpu=True, none=True)
    b.cpu("cpu")
    b.cpu("none", **{"fsl-links": 0})
    b.fifo("first", "cpu", "cpu")
    if props.get("sink") == "other":
        props = {"source-port": 1}
    arguments = {"source": "cpu", "sink": "cpu", **props}
    with pytest.raises(CommandError) as error:
        b.fifo("bad", **arguments)
        b.run("machine-wire")
    assert message in str(error.value)


def test_a_link_that_goes_leaves_its_ports(board: Any) -> None:
    b = board(cpu=True)
    isa = b.isas["cpu"]
    b.cpu("cpu", isa.assemble("put", ra=0, link=0), isa.assemble("bri", imm=-4))
    b.fifo("loop", "cpu", "cpu")
    b.run("x-exit-preconfig")
    b.until("loop", "words", 16)
    b.until("cpu", "activity", "halted")
    b.run("device_del", {"id": "loop"})
    assert b.get("cpu", "activity") == "halted"
    b.fifo("again", "cpu", "cpu", depth=32)
    b.until("again", "words", 32)
