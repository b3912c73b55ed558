"""Under libvirt: how long it takes to learn what an emulator can do, and to start and end a domain; subjects take turns.

libvirtd is one of our own (libvirtd.py), which reads each emulator anew: it knows emulators by their path, so every turn
has a path of its own.  The times are libvirt's, as virsh tells them, its own work among them.  The domain is a plain one: the
machine's default firmware, a kernel of a usual distribution's size, 128 MiB, a serial line.
"""

from __future__ import annotations

import struct
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import MappingProxyType

from ratite.clients.bench.libvirtd import Libvirtd, domain_xml
from ratite.clients.bench.report import Row
from ratite.clients.bench.subjects import version

TARGET, MACHINE = "riscv64", "virt"
PROGRAM = f"qemu-system-{TARGET}"
KERNEL_BYTES = 22 << 20
_NAMES = MappingProxyType(
    {"probe": "libvirt: learn an emulator", "create": "libvirt: create a domain", "destroy": "libvirt: destroy it"}
)

Samples = dict[str, list[float]]


def measure(theirs: str | None, runs: int, say: Callable[[str], None]) -> list[Row]:
    """All rows, beside the emulator at the path `theirs`."""
    with tempfile.TemporaryDirectory(prefix="ratite-lv-") as made:
        folder = Path(made)
        install = [sys.executable, "-m", "ratite.clients.cli", "install-shims", str(folder / "shims")]
        subprocess.run(install, check=True, stdout=subprocess.DEVNULL)
        emulators = {"ratite": folder / "shims" / PROGRAM}
        if theirs:
            emulators[version(theirs)] = Path(theirs)
        samples: dict[str, Samples] = {name: {key: [] for key in _NAMES} for name in emulators}
        (folder / "d").mkdir()
        kernel = _kernel(folder / "Image")
        with Libvirtd(folder / "d", verbose=False, code=folder / "ratite") as libvirtd:
            # As a host has it that runs domains.
            libvirtd.warm("rv64-riscv-cpu")
            libvirtd.virsh("list")
            for number in range(runs + 1):
                say(f"libvirt: turn {number} of {runs}")
                for name, emulator in emulators.items():
                    one = _turn(libvirtd, emulator, kernel, number)
                    if number:  # the first turn fills the page cache
                        for key, value in one.items():
                            samples[name][key].append(value)
    return _rows(samples)


def _kernel(path: Path) -> Path:
    """A file that is loaded as a kernel is (the header of RISC-V's boot image), and jumps to itself."""
    jump, magic, magic2 = 0x6F, b"RISCV\0\0\0", b"RSC\x05"
    head = struct.pack("<IIQQQIIQ8s4sI", jump, jump, 2 << 20, KERNEL_BYTES, 0, 2, 0, 0, magic, magic2, 0)
    path.write_bytes(head.ljust(KERNEL_BYTES, b"\x13"))
    return path


def _turn(libvirtd: Libvirtd, emulator: Path, kernel: Path, number: int) -> dict[str, float]:
    """Milliseconds of each step."""
    place = libvirtd.folder / f"{emulator.parent.name}-{number}"
    place.mkdir()
    path = place / emulator.name
    path.symlink_to(emulator)
    words = ("--emulatorbin", path, "--arch", TARGET, "--machine", MACHINE, "--virttype", "qemu")
    probe = libvirtd.timed("domcapabilities", *words)
    xml = place / "domain.xml"
    boot = f"<kernel>{kernel}</kernel><cmdline>console=ttyS0</cmdline>"
    xml.write_text(domain_xml("bench", path, boot=boot, machine=MACHINE, memory=128))
    return {"probe": probe, "create": libvirtd.timed("create", xml), "destroy": libvirtd.timed("destroy", "bench")}


def _rows(samples: dict[str, Samples]) -> list[Row]:
    """Of the first subject beside the second, if there is one."""
    ours, *others = samples
    rows = []
    for key, name in _NAMES.items():
        theirs = samples[others[0]][key] if others else []
        rows.append(Row(name, "ms", samples[ours][key], theirs, others[0] if others else "not installed", False))
    return rows
