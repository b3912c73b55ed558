"""virtio-serial: one console, many ports, control messages, a chardev that takes nothing, hostile drivers."""

from __future__ import annotations

import random
import struct
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from virtio_kit import RAM, RAM_SIZE, Board

from ratite.qapi.errors import GenericError

sys.path.insert(0, str(Path(__file__).parents[1]))
from hw_kit import Line

READY, ADD, REMOVE, PORT_READY, CONSOLE, RESIZE, OPEN, NAME = range(8)
F_MULTIPORT, F_EMERG = 2, 4
PORTS: tuple[dict[str, Any], ...] = (
    {"driver": "virtconsole", "id": "c0"},
    {"driver": "virtserialport", "id": "p1", "name": "org.x"},
)


class Serial(Board):
    """A virtio-serial-device with ports; `lines` are their chardevs."""

    def __init__(self, *ports: dict[str, Any], **props: Any) -> None:
        super().__init__("virtio-serial-device", **props)
        self.ids = [port["id"] for port in ports]
        for port in ports:
            rest = dict(port)
            self.machine.chardev_add(f"{port['id']}-line", "null", {})
            self.machine.device_add(rest.pop("driver"), rest.pop("id"), {"chardev": f"{port['id']}-line", **rest})

    def start(self) -> Serial:
        super().start()
        self.lines = {id: self.line(id) for id in self.ids}
        return self

    def line(self, id: str) -> Line:
        port = self.machine.resolve(id)
        port.chardev.detach()
        line = Line()
        port.chardev = line
        line.attach(port)
        return line

    def control(self, number: int, event: int, value: int = 1) -> None:
        at = self.alloc(8)
        self.write(at, struct.pack("<IHH", number, event, value))
        ring = self.queues[3]
        ring.free = list(range(8))
        ring.send((at, 8, False))

    def heard(self) -> list[tuple[int, int, int, bytes]]:
        """Control messages that came; the buffers are given back."""
        ring, found = self.queues[2], []
        for head, size in ring.taken():
            addr = struct.unpack("<Q", self.read(ring.desc + 16 * head, 8))[0]
            data = self.read(addr, size)
            found.append((*struct.unpack("<IHH", data[:8]), data[8:]))
            ring.offer(head)
        return found

    def up_ports(self, num: int = 8) -> Serial:
        self.up(queues=6, num=num)
        for _ in range(num):
            ring = self.queues[2]
            ring.offer(ring.chain((self.alloc(64), 64, True)))
        self.control(0xFFFFFFFF, READY)
        return self

    def say(self, queue: int, data: bytes) -> int:
        at = self.alloc(len(data))
        self.write(at, data)
        return self.queues[queue].send((at, len(data), False))

    def buffer(self, queue: int, size: int = 16) -> int:
        at = self.alloc(size)
        self.queues[queue].send((at, size, True))
        return at


@pytest.fixture
def serial() -> Iterator[Serial]:
    made = Serial(*PORTS).start()
    yield made
    assert made.faults() == 0
    made.machine.close()


def test_one_console_without_control_queues() -> None:
    serial = Serial(PORTS[0], max_ports=1).start()
    assert len(serial.dev.queues) == 2 and serial.features() & 6 == F_EMERG
    serial.up(queues=2)
    serial.say(1, b"hello")
    assert serial.lines["c0"].sent == b"hello" and len(serial.queues[1].taken()) == 1
    serial.lines["c0"].feed(b"in")
    at = serial.buffer(0)
    assert serial.queues[0].taken() == [(0, 2)] and serial.read(at, 2) == b"in"
    serial.machine.close()


def test_ports_announce_themselves(serial: Serial) -> None:
    assert serial.features() & 6 == 6 and len(serial.dev.queues) == 64 and serial.config(4, 4) == 31
    serial.up_ports()
    assert serial.heard() == [(0, ADD, 1, b""), (1, ADD, 1, b"")]
    serial.control(0, PORT_READY)
    assert serial.heard() == [(0, CONSOLE, 1, b""), (0, OPEN, 1, b"")]
    serial.control(1, PORT_READY)
    assert serial.heard() == [(1, NAME, 1, b"org.x\0"), (1, OPEN, 1, b"")]
    serial.machine.resolve("p1").chr_event("closed")
    serial.machine.resolve("p1").chr_event("opened")
    assert serial.heard() == [(1, OPEN, 0, b""), (1, OPEN, 1, b"")]
    serial.control(1, OPEN)
    serial.control(1, OPEN)
    serial.control(1, OPEN, 0)
    told = [data for name, data in serial.events if name == "VSERPORT_CHANGE"]
    assert told == [{"id": "p1", "open": True}, {"id": "p1", "open": False}]


def test_bytes_of_a_port(serial: Serial) -> None:
    serial.up_ports()
    line = serial.lines["p1"]
    line.feed(b"abcdef")
    at = serial.buffer(4, 4)
    assert serial.queues[4].taken() == [], "nobody has the port open"
    serial.control(1, OPEN)
    assert serial.queues[4].taken() == [(0, 4)] and serial.read(at, 4) == b"abcd"
    at = serial.buffer(4, 4)
    assert serial.queues[4].taken() == [(1, 2)] and serial.read(at, 2) == b"ef"
    serial.say(5, b"out")
    assert line.sent == b"out" and serial.lines["c0"].sent == b""


def test_a_chardev_that_takes_nothing_holds_the_ring(serial: Serial) -> None:
    serial.up_ports()
    line = serial.lines["c0"]
    line.room = 3
    for text in (b"hello ", b"big ", b"world"):
        serial.say(1, text)
    assert line.sent == b"hel" and serial.queues[1].taken() == []
    line.room = 5
    line.frontend.chr_writable()
    assert line.sent == b"hello bi" and len(serial.queues[1].taken()) == 1
    line.drain()
    assert line.sent == b"hello big world" and len(serial.queues[1].taken()) == 2
    line.room = 0
    serial.say(1, b"lost with the reset")
    serial.set(0x70, 0)
    line.drain()
    serial.top = RAM
    serial.up_ports()
    serial.say(1, b"!")
    assert line.sent == b"hello big world!"


def test_output_without_end_is_taken_in_portions(serial: Serial) -> None:
    serial.up_ports()
    line, at = serial.lines["c0"], RAM + RAM_SIZE // 2
    serial.write(at, b"y" * (RAM_SIZE // 2))
    serial.queues[1].send(*[(at, RAM_SIZE // 2, False)] * 7)
    assert len(line.sent) == 7 * RAM_SIZE // 2 and len(serial.queues[1].taken()) == 1
    ring = serial.queues[1]
    ring.free = list(range(8))
    serial.say(1, b"after")
    assert line.sent.endswith(b"yafter")


def test_the_emergency_byte_needs_no_driver(serial: Serial) -> None:
    serial.set(0x108, ord("x"))
    serial.set(0x104, 1)
    assert serial.lines["c0"].sent == b"x" and serial.config(4, 4) == 31


def test_ports_come_and_go(serial: Serial) -> None:
    serial.up_ports()
    serial.heard()
    machine = serial.machine
    machine.device_add("virtserialport", "p2", {"name": "late"})
    assert serial.heard() == [(2, ADD, 1, b"")]
    machine.device_del("p2")
    assert serial.heard() == [(2, REMOVE, 1, b"")]
    for props, text in (
        ({"nr": 0}, "Port number 0 on virtio-serial devices reserved for virtconsole devices"),
        ({"nr": 1}, "virtio-serial-bus: A port already exists at id 1"),
        ({"nr": 31}, "virtio-serial-bus: Out-of-range port id specified, max. allowed: 30"),
        ({"name": "org.x"}, "virtio-serial-bus: A port already exists by name org.x"),
        ({"bus": "nope"}, "Bus 'nope' not found"),
    ):
        with pytest.raises(GenericError, match=text):
            machine.device_add("virtserialport", "p3", props)
    with pytest.raises(GenericError, match="Device 'virtio-serial-device' does not support hotplugging"):
        machine.device_del("dev")


def test_numbers_do_not_depend_on_the_order() -> None:
    for turn in (1, -1):
        ports = ({"driver": "virtserialport", "id": "a"}, {"driver": "virtserialport", "id": "z", "nr": 1})[::turn]
        serial = Serial(*ports).start()
        assert {id: serial.machine.resolve(id).number for id in "az"} == {"a": 2, "z": 1}
        serial.machine.close()


def test_messages_for_a_driver_without_buffers_do_not_pile_up(serial: Serial) -> None:
    serial.up(queues=6)
    for _ in range(300):
        serial.control(0xFFFFFFFF, READY)
        for number in range(40):
            serial.control(number, PORT_READY)
        serial.top = RAM + 65536
    assert len(serial.dev._messages) <= 6
    ring = serial.queues[2]
    for _ in range(8):
        ring.offer(ring.chain((serial.alloc(64), 64, True)))
    assert len(serial.heard()) == 6


@pytest.mark.parametrize("seed", range(10))
def test_a_hostile_driver(serial: Serial, seed: int) -> None:
    rng = random.Random(seed)
    for _ in range(10):
        serial.top = RAM
        serial.up_ports()
        for _ in range(30):
            queue = rng.randrange(6)
            ring = serial.queues[queue]
            ring.free = list(range(8))
            addr = rng.choice((RAM + rng.randrange(RAM_SIZE), rng.getrandbits(64)))
            size = rng.choice((0, 1, 7, 8, 100, rng.getrandbits(32)))
            if queue == 3 and rng.random() < 0.8:
                serial.control(rng.choice((0, 1, 2, rng.getrandbits(32))), rng.randrange(10), rng.randrange(3))
            else:
                ring.send((addr, size, rng.random() < 0.5))
            for line in serial.lines.values():
                line.room = rng.randrange(1 << 12)
                line.feed(b"x" * rng.randrange(9))
                line.sent = b""
                if rng.random() < 0.5:
                    line.frontend.chr_writable()
    serial.top = RAM
    serial.up_ports()
    assert not serial.needs_reset() and serial.faults() == 0
