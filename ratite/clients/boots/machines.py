"""The machines that boot Linux, each as the QMP commands of any client: (command, arguments) in order.

No device tree is given: it is made from what is assembled here.  `x-exit-preconfig` is left to the caller.

    riscv64      OpenSBI and Debian's kernel: RAM at 0x80000000, PLIC, ACLINT, 16550, finisher, RTC, virtio-mmio
    s3adsp1800   big-endian MicroBlaze: RAM at 0x90000000, block RAM at 0, UART Lite, interrupt controller, timer
    ml605        little-endian MicroBlaze: RAM at 0x50000000, block RAM at 0, 16550, interrupt controller, timer

`pci` adds a PCI Express host bridge to the first.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any

Command = tuple[str, dict[str, Any]]

MIB = 1 << 20
VIRTIO_SLOTS = 8
GUESTS = ("riscv64", "s3adsp1800", "ml605")
RAM: Mapping[str, int] = MappingProxyType({"riscv64": 512 * MIB, "s3adsp1800": 128 * MIB, "ml605": 256 * MIB})
_TARGET: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "riscv64": ("riscv64", "rv64-riscv-cpu"),
        "s3adsp1800": ("microblaze", "microblaze-cpu"),
        "ml605": ("microblazeel", "microblaze-cpu"),
    }
)
_RAM_AT: Mapping[str, int] = MappingProxyType({"riscv64": 0x80000000, "s3adsp1800": 0x90000000, "ml605": 0x50000000})


def linux(
    guest: str, chardev: str, boot: Mapping[str, str], *, harts: int = 1, prefix: str = "", accel: str = "", ram: int = 0
) -> Iterable[Command]:
    """The machine of that name with its console at `chardev`; `boot`: the boot CPU's firmware, kernel, initrd, append.

    `ram` in bytes, 0: the guest's usual; all ids start with `prefix`, so that several fit into a machine.  KeyError.
    """
    p = prefix
    target, cpu = _TARGET[guest]
    yield "object-add", {"qom-type": "address-space", "id": f"{p}view"}
    yield "object-add", {"qom-type": "memory-backend-ram", "id": f"{p}ram", "size": ram or RAM[guest]}
    yield "map-region", {"space": f"{p}view", "region": f"{p}ram", "offset": _RAM_AT[guest]}
    cluster = {"qom-type": "cpu-cluster", "id": f"{p}cluster", "target": target, "address-space": f"{p}view"}
    yield "object-add", {**cluster, "accel": accel} if accel else cluster
    for hart in range(harts):
        props: dict[str, Any] = {"driver": cpu, "id": f"{p}cpu{hart}", "cluster": f"{p}cluster", "cpu-index": hart}
        if target == "riscv64":
            props["hartid"] = hart
        else:
            props["use-mmu"] = 3
        yield "device_add", {**props, **(boot if hart == 0 else {})}
    yield from _riscv(p, chardev, harts) if guest == "riscv64" else _microblaze(p, chardev, guest)


def pci(*, prefix: str = "", ports: int = 0) -> Iterable[Command]:
    """A host bridge for the machine riscv64 at the places of QEMU's, with root ports rp0, rp1, … for hot plug."""
    p = prefix
    yield "device_add", {"driver": "gpex-pcihost", "id": f"{p}pci0", "address-space": f"{p}view"}
    for window, at in ("ecam", 0x30000000), ("mmio", 0x40000000), ("mmio64", 0x400000000), ("pio", 0x3000000):
        yield "map-region", {"space": f"{p}view", "region": f"{p}pci0/{window}", "offset": at}
    for pin in range(4):
        yield _wire(p, "pci0", f"intx[{pin}]", "plic", f"irq[{32 + pin}]")
    bus = f"/machine/peripheral/{p}pci0/pcie.0"
    for n in range(ports):
        props = {"chassis": 1, "slot": n, "addr": f"{n + 1:x}", "bus": bus}
        yield "device_add", {"driver": "pcie-root-port", "id": f"{p}rp{n}", **props}


def _device(p: str, driver: str, id: str, at: int, **props: Any) -> Iterable[Command]:
    """A device with one region."""
    given = {name.replace("_", "-"): value for name, value in props.items()}
    yield "device_add", {"driver": driver, "id": f"{p}{id}", **given}
    yield "map-region", {"space": f"{p}view", "region": f"{p}{id}", "offset": at}


def _wire(p: str, source: str, output: str, target: str, input: str) -> Command:
    return "wire-irq", {"from": f"{p}{source}", "output": output, "to": f"{p}{target}", "input": input}


def _riscv(p: str, chardev: str, harts: int) -> Iterable[Command]:
    yield from _device(p, "riscv.sifive.plic", "plic", 0xC000000, hart_config=",".join(["MS"] * harts))
    yield from _device(p, "riscv.aclint.swi", "swi", 0x2000000, num_harts=harts)
    yield from _device(p, "riscv.aclint.mtimer", "mtimer", 0x2004000, num_harts=harts)
    for hart in range(harts):
        for source, output in ("swi", "msip"), ("mtimer", "mtip"), ("plic", "meip"), ("plic", "seip"):
            yield _wire(p, source, f"{output}[{hart}]", f"cpu{hart}", output)
    yield from _device(p, "riscv.sifive.test", "finisher", 0x100000)
    yield from _device(p, "goldfish_rtc", "rtc", 0x101000)
    yield _wire(p, "rtc", "irq", "plic", "irq[11]")
    yield from _device(p, "ns16550", "uart0", 0x10000000, chardev=chardev, baudbase=230400)
    yield _wire(p, "uart0", "irq", "plic", "irq[10]")
    for slot in range(1, VIRTIO_SLOTS + 1):
        yield from _device(p, "virtio-mmio", f"virtio{slot}", 0x10000000 + 0x1000 * slot)
        yield _wire(p, f"virtio{slot}", "irq", "plic", f"irq[{slot}]")


def _microblaze(p: str, chardev: str, guest: str) -> Iterable[Command]:
    big = guest == "s3adsp1800"
    order = "big" if big else "little"
    timer_line, uart_line, clock = (0, 3, 62_500_000) if big else (2, 5, 100_000_000)
    yield "object-add", {"qom-type": "memory-backend-ram", "id": f"{p}bram", "size": 0x2000 if big else 0x20000}
    yield "map-region", {"space": f"{p}view", "region": f"{p}bram", "offset": 0}
    yield from _device(p, "xlnx.xps-intc", "intc", 0x81800000, endianness=order, kind_of_intr=0x0A if big else 0x04)
    yield _wire(p, "intc", "irq", "cpu0", "irq")
    yield from _device(p, "xlnx.xps-timer", "timer", 0x83C00000, endianness=order, clock_frequency=clock)
    yield _wire(p, "timer", "irq", "intc", f"irq[{timer_line}]")
    if big:
        yield from _device(p, "xlnx.xps-uartlite", "uart0", 0x84000000, endianness=order, chardev=chardev)
    else:
        yield from _device(p, "ns16550", "uart0", 0x83E01000, regshift=2, chardev=chardev)
    yield _wire(p, "uart0", "irq", "intc", f"irq[{uart_line}]")
