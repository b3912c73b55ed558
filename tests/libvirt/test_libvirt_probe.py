"""What libvirt, unmodified, learns of the shims."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import pytest

from ratite.clients.bench.libvirtd import Libvirtd

pytestmark = pytest.mark.peer


@pytest.mark.parametrize("target, machine", [
    ("riscv64", "virt"), ("riscv32", "virt"), ("microblaze", "petalogix-s3adsp1800"), ("microblazeel", "petalogix-ml605"),
])  # fmt: skip
def test_a_shim_is_probed(libvirtd: Libvirtd, shims: Path, target: str, machine: str) -> None:
    emulator = shims / f"qemu-system-{target}"
    words = ("--emulatorbin", emulator, "--arch", target, "--machine", machine, "--virttype", "qemu")
    answer = ElementTree.fromstring(libvirtd.virsh("domcapabilities", *words))
    assert [answer.findtext(name) for name in ("path", "domain", "machine", "arch")] == [str(emulator), "qemu", machine, target]
    assert answer.find("vcpu") is not None
