"""A machine of 200 devices, as QMP commands: what a picture of a machine is tried with.

Four harts with a PLIC, a PCI Express host and 60 virtio transports; two big-endian MicroBlaze CPUs with a controller of their
own, timers and UARTs; mailboxes that both see.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ratite.clients.machines import MIB, Command

_AT = "/machine/peripheral"
HARTS, CORES = 4, 2
TRANSPORTS, PORTS, UARTS, TIMERS, LITES, BLOCKS, MAILBOXES = 60, 12, 20, 16, 14, 12, 4


def large(images: Path | None = None, console: str = "") -> Iterable[Command]:
    """`images` is a folder of guests: hart 0 echoes what the console `console` gets, the others and the MicroBlaze compute."""
    yield "machine-create", {}
    yield from _riscv(images, console)
    yield from _microblaze(images)
    for number in range(MAILBOXES):
        mailbox = f"mbox{number}"
        yield _device("xlnx.mailbox", mailbox, **{"if0-endianness": "little", "if1-endianness": "big"})
        yield _map("rv-view", f"{mailbox}/if0", 0x10080000 + 0x1000 * number)
        yield _map("mb-view", f"{mailbox}/if1", 0x10080000 + 0x1000 * number)
        yield _wire(mailbox, "irq0", "plic", f"irq[{110 + number}]")
        yield _wire(mailbox, "irq1", "intc", f"irq[{28 + number}]")
    yield "object-add", {"qom-type": "memory-backend-ram", "id": "shared", "size": MIB}
    for space in "rv-view", "mb-view":
        yield _map(space, "shared", 0x90000000)


def count(commands: Iterable[Command]) -> int:
    """How many devices the commands add, CPUs not among them."""
    return sum(name == "device_add" and "-cpu" not in arguments["driver"] for name, arguments in commands)


def _riscv(images: Path | None, console: str) -> Iterable[Command]:
    yield "object-add", {"qom-type": "address-space", "id": "rv-view"}
    yield "object-add", {"qom-type": "memory-backend-ram", "id": "rv-ram", "size": 16 * MIB}
    yield _map("rv-view", "rv-ram", 0x80000000)
    yield _cluster("rv", "riscv64")
    for hart in range(HARTS):
        guest = {} if images is None or hart else {"image": str(images / "echo.rv64.elf")}
        yield _device("rv64-riscv-cpu", f"hart{hart}", cluster="rv", hartid=hart, **{"cpu-index": hart}, **guest)
        yield _wire("mtimer", f"mtip[{hart}]", f"hart{hart}", "mtip")
        yield _wire("swi", f"msip[{hart}]", f"hart{hart}", "msip")
        yield _wire("plic", f"meip[{hart}]", f"hart{hart}", "meip")
    for driver, name, at in (
        ("riscv.aclint.mtimer", "mtimer", 0x2004000),
        ("riscv.aclint.swi", "swi", 0x2000000),
    ):
        yield _device(driver, name, **{"num-harts": HARTS})
        yield _map("rv-view", name, at)
    yield _device("riscv.sifive.plic", "plic", **{"hart-config": ",".join(["M"] * HARTS), "num-sources": 127})
    yield _map("rv-view", "plic", 0xC000000)
    yield _device("riscv.sifive.test", "finisher")
    yield _map("rv-view", "finisher", 0x100000)
    yield _device("goldfish_rtc", "rtc")
    yield _map("rv-view", "rtc", 0x101000)
    yield _wire("rtc", "irq", "plic", "irq[1]")
    for number in range(UARTS):
        chosen = {"chardev": console} if console and number == 0 else {}
        yield _device("ns16550", f"uart{number}", **chosen)
        yield _map("rv-view", f"uart{number}", 0x10000000 + 0x100 * number)
        yield _wire(f"uart{number}", "irq", "plic", f"irq[{2 + number}]")
    for number in range(TRANSPORTS):
        yield _device("virtio-mmio", f"virtio{number}")
        yield _map("rv-view", f"virtio{number}", 0x10010000 + 0x1000 * number)
        yield _wire(f"virtio{number}", "irq", "plic", f"irq[{24 + number}]")
        if number < TRANSPORTS // 2:
            yield _device("virtio-rng-device", f"rng{number}", bus=f"{_AT}/virtio{number}/virtio{number}.0")
    yield from _pci()


def _pci() -> Iterable[Command]:
    yield _device("gpex-pcihost", "pci", **{"address-space": "rv-view"})
    for window, at in ("ecam", 0x30000000), ("mmio", 0x40000000):
        yield _map("rv-view", f"pci/{window}", at)
    for line in range(4):
        yield _wire("pci", f"intx[{line}]", "plic", f"irq[{100 + line}]")
    for number in range(PORTS):
        yield _device("pcie-root-port", f"port{number}", bus=f"{_AT}/pci/pcie.0", chassis=number + 1, addr=f"{number + 1:x}")
        yield _device("virtio-rng-pci", f"card{number}", bus=f"{_AT}/port{number}/port{number}")
    for number in range(PORTS):
        yield _device("virtio-rng-pci", f"slot{number}", bus=f"{_AT}/pci/pcie.0", addr=f"{number + 16:x}")


def _microblaze(images: Path | None) -> Iterable[Command]:
    big = {"endianness": "big"}
    yield "object-add", {"qom-type": "address-space", "id": "mb-view"}
    yield "object-add", {"qom-type": "memory-backend-ram", "id": "mb-ram", "size": MIB // 2}
    yield _map("mb-view", "mb-ram", 0)
    yield _cluster("mb", "microblaze")
    for core in range(CORES):
        guest = {} if images is None or core else {"image": str(images / "spin.mb.elf")}
        yield _device("microblaze-cpu", f"core{core}", cluster="mb", **{"cpu-index": core}, **guest)
    for number, controller in enumerate(("intc", "intc1")):
        yield _device("xlnx.xps-intc", controller, **big, **{"num-intr-inputs": 32})
        yield _map("mb-view", controller, 0x41200000 + 0x10000 * number)
        yield _wire(controller, "irq", f"core{number}", "irq")
    for number in range(TIMERS):
        yield _device("xlnx.xps-timer", f"timer{number}", **big)
        yield _map("mb-view", f"timer{number}", 0x41C00000 + 0x10000 * number)
        yield _wire(f"timer{number}", "irq", "intc", f"irq[{number}]")
    for number in range(LITES):
        yield _device("xlnx.xps-uartlite", f"lite{number}", **big)
        yield _map("mb-view", f"lite{number}", 0x40600000 + 0x10000 * number)
        yield _wire(f"lite{number}", "irq", "intc1", f"irq[{number}]")
    for number in range(BLOCKS):
        yield _device("unimplemented-device", f"block{number}", name=f"block{number}", size=0x1000)
        yield _map("mb-view", f"block{number}", 0x50000000 + 0x10000 * number)


def _cluster(name: str, target: str) -> Command:
    return "object-add", {"qom-type": "cpu-cluster", "id": name, "target": target, "address-space": f"{name}-view"}


def _device(driver: str, id: str, /, **properties: Any) -> Command:
    return "device_add", {"driver": driver, "id": id, **properties}


def _map(space: str, region: str, offset: int) -> Command:
    return "map-region", {"space": space, "region": region, "offset": offset}


def _wire(source: str, output: str, target: str, line: str) -> Command:
    return "wire-irq", {"from": source, "output": output, "to": target, "input": line}
