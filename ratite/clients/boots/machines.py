"""The machines that boot Linux, each as the QMP commands of any client: (command, arguments) in order.

They are profiles; no device tree is given: it is made from what is assembled here.  `x-exit-preconfig` is left to the caller.

    riscv64      riscv-virt/simple   OpenSBI and Debian's kernel
    s3adsp1800   s3adsp1800/simple   big-endian MicroBlaze
    ml605        ml605/simple        little-endian MicroBlaze

`pci` adds a PCI Express host bridge to the first.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any

from ratite.clients.machines import MIB, Command, of_profile

GUESTS = ("riscv64", "s3adsp1800", "ml605")
RAM: Mapping[str, int] = MappingProxyType({"riscv64": 512 * MIB, "s3adsp1800": 128 * MIB, "ml605": 256 * MIB})
_PROFILES: Mapping[str, str] = MappingProxyType(
    {"riscv64": "riscv-virt/simple@1", "s3adsp1800": "s3adsp1800/simple@1", "ml605": "ml605/simple@1"}
)


def linux(
    guest: str, chardev: str, boot: Mapping[str, str], *, harts: int = 1, prefix: str = "", accel: str = "", ram: int = 0
) -> Iterable[Command]:
    """The machine of that name with its console at `chardev`; `boot`: the boot CPU's firmware, kernel, initrd, append.

    `ram` in bytes, 0: the guest's usual; all ids start with `prefix`, so that several fit into a machine.  KeyError.
    """
    given: dict[str, Any] = {"ram": ram or RAM[guest], "accel": accel}
    if guest == "riscv64":
        given["harts"] = harts
    for command, arguments in of_profile(_PROFILES[guest], given, prefix=prefix, chardev=chardev):
        yield command, {**arguments, **boot} if arguments.get("id") == f"{prefix}cpu0" else arguments


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


def _wire(p: str, source: str, output: str, target: str, input: str) -> Command:
    return "wire-irq", {"from": f"{p}{source}", "output": output, "to": f"{p}{target}", "input": input}
