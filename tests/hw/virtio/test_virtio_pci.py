"""virtio over PCI: capabilities, the common configuration, interrupts, bus mastering, hostile drivers."""

from __future__ import annotations

import os
import random
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import test_virtio_core as core_tests
import test_virtio_serial as serial_tests
from blk_kit import FLUSH, IN, OUT
from pci_board import BELL, ECAM, WINDOW, WINDOW64, PciBoard, PciDisk
from virtio_kit import F_EVENT_IDX, F_INDIRECT, F_VERSION_1, RAM, RAM_SIZE

from ratite.qapi.errors import GenericError

MSIX = WINDOW


@pytest.fixture
def board() -> Iterator[PciBoard]:
    made = PciBoard("virtio-rng-device").start()
    yield made
    assert made.faults() == 0
    made.machine.close()


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "disk.img"
    path.write_bytes(bytes(range(256)) * 4096)
    return path


def capabilities(board: PciBoard) -> list[tuple[int, int]]:
    """(id, offset), in the list's order."""
    found, at = [], board.conf(0x34, 1)
    while at:
        found.append((board.conf(at, 1), at))
        at = board.conf(at + 1, 1)
    return found


def test_identity(board: PciBoard) -> None:
    assert [board.conf(at) for at in (0, 8, 0x2C)] == [0x10441AF4, 0x00FF0001, 0x11001AF4]
    assert [id for id, _ in capabilities(board)] == [0x10, 1, 9, 9, 9, 9, 9, 0x11]
    vendor = {board.conf(at + 3, 1): at for id, at in capabilities(board) if id == 9}
    places = {kind: (board.conf(at + 4, 1), board.conf(at + 8), board.conf(at + 12)) for kind, at in vendor.items()}
    assert places == {
        1: (4, 0, 0x1000), 3: (4, 0x1000, 0x1000), 4: (4, 0x2000, 0x1000), 2: (4, 0x3000, 0x1000), 5: (0, 0, 0),
    }  # fmt: skip
    assert {kind: board.conf(at + 2, 1) for kind, at in vendor.items()} == {1: 16, 3: 16, 4: 16, 2: 20, 5: 20}
    assert board.conf(vendor[2] + 16) == 4
    msix = dict(capabilities(board))[0x11]
    assert (board.conf(msix + 2, 2), board.conf(msix + 4) & 7) == (1, 1)


def test_common_configuration(board: PciBoard) -> None:
    assert (board.bar(0x12, 2), board.bar(0x10, 2), board.bar(0x1A, 2)) == (1, 0xFFFF, 0xFFFF)
    assert board.features() == F_VERSION_1 | F_INDIRECT | F_EVENT_IDX
    assert (board.bar(0x18, 2), board.bar(0x1E, 2), board.bar(0x1C, 2)) == (8, 0, 0)
    board.negotiate()
    board.bar_set(0x20, 0x123456789ABCDEF0, 8)
    assert (board.bar(0x20), board.bar(0x24), board.bar(0x20, 8)) == (0x9ABCDEF0, 0x12345678, 0x123456789ABCDEF0)
    for vector, kept in ((1, 1), (2, 0xFFFF), (0xFFFE, 0xFFFF), (0, 0)):
        for at in (0x10, 0x1A):
            board.bar_set(at, vector, 2)
            assert board.bar(at, 2) == kept
    board.bar_set(0x16, 1, 2)
    assert [board.bar(at, 2) for at in (0x18, 0x1A, 0x1C)] == [0, 0xFFFF, 0]
    for at in range(0x16, 0x40, 2):
        board.bar_set(at, 0xFFFF, 2)
    board.bar_set(0x14, 0, 1)
    assert (board.bar(0x10, 2), board.bar(0x16, 2)) == (0xFFFF, 0)
    assert (board.bar(0x38), board.bar(0xFFC), board.bar(0x1FFC), board.bar(0x2FFC), board.bar(0x3FFC)) == (0,) * 5


@pytest.mark.parametrize("indirect", [False, True])
def test_buffers_go_round_by_line(board: PciBoard, indirect: bool) -> None:
    ring = board.up().queues[0]
    buffer = board.alloc(64)
    ring.send((buffer, 64, True), indirect=indirect)
    assert [size for _, size in ring.taken()] == [64]
    assert any(board.read(buffer, 64))
    assert (board.irq(), board.conf(6, 1) & 8) == (1, 8)
    assert (board.bar(0x1000, 1), board.bar(0x1000, 1), board.irq()) == (1, 0, 0)


def arm(board: PciBoard, vector: int) -> None:
    """Unmask a vector whose message is `0x100 + vector` to a word at BELL."""
    for at, value in ((0, BELL + 4 * vector), (4, 0), (8, 0x100 + vector), (12, 0)):
        with board.machine.lock:
            board.space.store(MSIX + 16 * vector + at, 4, value, board.dev.access.__class__())


def rung(board: PciBoard, vector: int) -> int:
    data = int.from_bytes(board.read(BELL + 4 * vector, 4), "little")
    board.write(BELL + 4 * vector, bytes(4))
    return data


def test_interrupts_by_message(board: PciBoard) -> None:
    msix = dict(capabilities(board))[0x11]
    board.negotiate()
    ring = board.setup(0)
    board.bar_set(0x10, 0, 2)
    board.bar_set(0x1A, 1, 2)
    for vector in (0, 1):
        arm(board, vector)
    board.conf_set(msix + 2, 0x8000, 2)
    board.driver_ok()
    buffer = board.alloc(16)
    ring.send((buffer, 16, True))
    assert (rung(board, 1), rung(board, 0), board.irq(), board.bar(0x1000, 1)) == (0x101, 0, 0, 0)
    ring.offer(9)
    assert board.needs_reset()
    assert (rung(board, 0), board.bar(0x1000, 1)) == (0x100, 2)
    board.bar_set(0x14, 0, 1)
    board.up()
    board.queues[0].send((board.alloc(16), 16, True))
    assert (rung(board, 0), rung(board, 1), board.irq()) == (0, 0, 0)


def test_without_messages() -> None:
    board = PciBoard("virtio-rng-device", vectors=0).start()
    assert 0x11 not in dict(capabilities(board))
    board.bar_set(0x10, 0, 2)
    assert board.bar(0x10, 2) == 0xFFFF
    board.up().queues[0].send((board.alloc(16), 16, True))
    assert board.irq() == 1
    board.machine.close()
    board = PciBoard("virtio-rng-device", machine=None)
    with pytest.raises(GenericError, match="vectors' must be at most 2048"):
        board.machine.device_add("virtio-rng-pci", "other", {"vectors": 2049})
    board.machine.close()


def test_configuration_access_capability(image: Path) -> None:
    board = PciDisk(image).start()
    cap = next(at for id, at in capabilities(board) if id == 9 and board.conf(at + 3, 1) == 5)

    def aim(bar: int, offset: int, size: int) -> None:
        board.conf_set(cap + 4, bar, 1)
        board.conf_set(cap + 8, offset)
        board.conf_set(cap + 12, size)

    aim(4, 0x2000, 4)
    assert board.conf(cap + 16) == 2048
    aim(4, 0x14, 1)
    board.conf_set(cap + 16, 3)
    assert board.bar(0x14, 1) == 3
    assert board.conf(cap + 16) & 0xFF == 3
    for wild in ((0, 0x2000, 4), (4, 0x4000, 4), (4, 0xFFFFFFFC, 4), (4, 1, 2), (4, 0x3FFE, 4), (4, 0, 3), (4, 0, 0)):
        aim(*wild)
        board.conf_set(cap + 16, 0x5A)
        assert board.conf(cap + 16, 1) == 0x5A
    assert board.faults() == 0
    board.machine.close()


def test_not_bus_master(board: PciBoard) -> None:
    ring = board.up().queues[0]
    buffer = board.alloc(16)
    board.conf_set(4, 2, 2)
    ring.send((buffer, 16, True))
    assert (board.needs_reset(), board.read(buffer, 16)) == (True, bytes(16))
    board.conf_set(4, 6, 2)
    board.top = RAM
    board.up().queues[0].send((board.alloc(16), 16, True))
    assert len(board.queues[0].taken()) == 1


def test_function_resets(board: PciBoard) -> None:
    board.up()
    express = dict(capabilities(board))[0x10]
    board.conf_set(express + 8, 0x8000, 2)
    assert board.conf(4, 2) == 0
    board.enable()
    assert (board.bar(0x14, 1), board.bar(0x1C, 2)) == (0, 0)


def test_a_disk(image: Path) -> None:
    disk = PciDisk(image, inline=False).ready()
    assert disk.do(IN, 1, size=512) == (0, bytes(range(256)) * 2)
    assert disk.do(OUT, 1, b"x" * 512)[0] == 0
    assert disk.do(FLUSH, 0)[0] == 0
    assert image.read_bytes()[512:1024] == b"x" * 512
    assert disk.faults() == 0
    disk.machine.close()


@pytest.mark.parametrize("case", core_tests.CASES)
def test_broken_rules_as_on_mmio(board: PciBoard, case: str) -> None:
    core_tests.test_broken_rules_stop_the_device_and_a_reset_brings_it_back(board, case)


@pytest.mark.parametrize("seed", range(10))
def test_hostile_drivers_as_on_mmio(board: PciBoard, seed: int) -> None:
    core_tests.test_a_hostile_driver(board, seed)


@pytest.mark.parametrize("seed", range(20))
def test_a_hostile_guest(seed: int) -> None:
    """Writes anywhere in configuration space and BARs, of any size; nothing raises, and a reset helps."""
    board = PciBoard("virtio-rng-device").start()
    rng = random.Random(seed)
    for _ in range(400):
        place = rng.choice((ECAM + (1 << 15), ECAM + (1 << 15), WINDOW64, WINDOW64 + 0x3000, WINDOW))
        size = rng.choice((1, 2, 4, 8))
        addr = place + (rng.randrange(0x100) & -size)
        value = rng.choice((0, 0xFFFFFFFFFFFFFFFF, rng.getrandbits(64), WINDOW64, WINDOW, BELL, ECAM + (1 << 15), 6, 3, 0x8000))
        with board.machine.lock:
            board.space.store(addr, size, value & (1 << 8 * size) - 1, board.dev.access.__class__())
            board.space.load(addr, size, board.dev.access.__class__())
    assert board.faults() == 0
    board.machine.reset()
    board.top = RAM
    board.write(RAM, bytes(RAM_SIZE))
    board.enable()
    board.up().queues[0].send((board.alloc(16), 16, True))
    assert len(board.queues[0].taken()) == 1
    board.machine.close()


def test_saved_state_goes_on_elsewhere(board: PciBoard) -> None:
    ring = board.up().queues[0]
    ring.send((board.alloc(16), 16, True))
    other = PciBoard("virtio-rng-device").start()
    other.machine.reset()
    other.space.write(RAM, board.space.read(RAM, RAM_SIZE))
    other.dev.load_state(board.dev.save_state())
    assert other.irq() == 1
    other.top, ring.board = board.top, other
    assert len(ring.taken()) == 1
    ring.send((other.alloc(16), 16, True))
    assert len(ring.taken()) == 1
    other.machine.close()


def hot_machine() -> Any:
    board = PciBoard("virtio-rng-device")
    board.machine.device_del("dev")
    board.machine.device_add("pcie-root-port", "rp0", {"slot": 1, "addr": "1"})
    board.machine.exit_preconfig()
    board.events.clear()
    return board


def test_plugged_while_the_machine_runs(image: Path) -> None:
    board = hot_machine()
    add = {"driver": "file", "filename": str(image), "node-name": "n0"}
    board.machine.blockdev_add(add)
    with pytest.raises(GenericError, match="drive property not set"):
        board.machine.device_add("virtio-blk-pci", "d0", {"bus": "rp0"})
    with pytest.raises(GenericError, match="can't find value 'nope'"):
        board.machine.device_add("virtio-blk-pci", "d0", {"bus": "rp0", "drive": "nope"})
    board.machine.device_add("virtio-blk-pci", "d0", {"bus": "rp0", "drive": "n0"})
    board.machine.device_del("d0")
    assert [name for name, _ in board.events] == ["DEVICE_DELETED"]
    board.machine.device_add("virtio-blk-pci", "d0", {"bus": "rp0", "drive": "n0"})
    with pytest.raises(GenericError, match=r"Bus 'pcie\.0' does not support hotplugging"):
        board.machine.device_add("virtio-blk-pci", "d1", {"bus": "pcie.0", "drive": "n0"})
    board.machine.close()




def test_a_disk_that_goes_with_requests_under_way(image: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    go, real = threading.Event(), os.preadv
    monkeypatch.setattr(os, "preadv", lambda *args: go.wait() and real(*args))
    board = PciDisk(image, inline=False)
    board.call(board.machine.device_del, "dev")
    board.call(board.machine.device_add, "pcie-root-port", "rp0", {"addr": "1"})
    board.call(board.machine.device_add, "virtio-blk-pci", "dev", {"bus": "rp0", "drive": "n0"})
    board.bdf = 0x100
    board.start_below(1 << 3)
    board.up()
    _, data, _ = board.submit(IN, 1, size=512)
    with board.machine.lock:
        port = board.machine.resolve("/machine/peripheral/rp0")
        port.config_write(port.capability.start + 0x18, 2, 0x7C0)
    board.call(lambda: None)
    assert "dev" not in board.machine.tree.peripheral.children
    go.set()
    board.call(board.machine.blockdev_del, "n0")
    assert board.read(data, 512) == bytes(512)
    board.machine.close()


class PciSerial(serial_tests.Serial, PciBoard):
    """A virtio-serial-pci with ports."""


def test_a_console_device() -> None:
    board = PciSerial(*serial_tests.PORTS).start()
    assert (board.conf(0), board.conf(8) >> 8) == (0x10431AF4, 0x078000)
    serial_tests.test_bytes_of_a_port(board)
    assert board.faults() == 0
    board.machine.close()
