"""Debian's riscv64 kernel as a guest: RATITE_DEBIAN is a folder as `python -m ratite.clients.boots.guests FOLDER` makes it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

PLACE = Path(os.environ.get("RATITE_DEBIAN", "/nowhere"))
INITRD = PLACE / "initramfs-riscv64-virtio.cpio.gz"
BOOT = {
    "firmware": str(PLACE / "opensbi-riscv64" / "fw_dynamic.bin"), "kernel": str(PLACE / "linux-riscv64-Image"),
    "initrd": str(INITRD), "append": "console=ttyS0 quiet",
}  # fmt: skip
MARKS = [
    pytest.mark.peer,
    pytest.mark.skipif(not INITRD.exists(), reason="RATITE_DEBIAN names no folder with a kernel and modules"),
]
PATIENCE = 300.0
