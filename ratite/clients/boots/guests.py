"""The files that guests boot from, in one folder: fetched from Debian, or unpacked from the archive beside the tests.

    python -m ratite.clients.boots.guests FOLDER

    linux-riscv64-Image, opensbi-riscv64/fw_dynamic.bin, initramfs-riscv64.cpio.gz     Debian trixie, by apt
    vmlinux-be, initramfs-be-calm.cpio.gz, vmlinux-le, initramfs-le-calm.cpio.gz       tests/guests/linux-microblaze

The MicroBlaze guests start with a program of ours, `calm`, against a fault of their kernel (docs/boot.md).

Debian's packages come through a private apt root, by the host's own mirror and keyring: nothing of the host's package
state is touched.  The initramfs is made here (initramfs.py) from Debian's static busybox and virtio modules.
"""

from __future__ import annotations

import lzma
import re
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

from ratite.clients.boots.initramfs import initramfs, with_program

SUITE = "trixie"
_BUILT = Path(__file__).resolve().parents[3] / "tests" / "guests"
MICROBLAZE, ELFS = _BUILT / "linux-microblaze" / "images.tar.xz", _BUILT / "elf"
MODULES = (
    "net/core/failover", "drivers/net/net_failover", "drivers/net/virtio_net", "drivers/virtio/virtio_mmio",
    "drivers/block/virtio_blk", "drivers/char/hw_random/virtio-rng",
    "drivers/virtio/virtio_input", "drivers/input/evdev", "drivers/virtio/virtio_balloon",
)  # fmt: skip
_KERNEL = re.compile(r"linux-image-6\.12\.[^ ]*-riscv64")
_CONF = """Dir::State "{root}/state";
Dir::State::status "{root}/state/status";
Dir::Cache "{root}/cache";
Dir::Etc::sourcelist "{root}/sources.list";
Dir::Etc::sourceparts "-";
Dir::Etc::main "-";
Dir::Etc::parts "-";
APT::Architectures {{ "{own}"; "riscv64"; }};
APT::Sandbox::User "";
"""


class Files(NamedTuple):
    """What one guest boots from, as names in the folder; "" where there is none."""

    kernel: str
    initrd: str
    append: str
    firmware: str = ""


FILES: Mapping[str, Files] = MappingProxyType(
    {
        "riscv64": Files(
            "linux-riscv64-Image", "initramfs-riscv64.cpio.gz", "console=ttyS0 quiet", "opensbi-riscv64/fw_dynamic.bin"
        ),
        "s3adsp1800": Files("vmlinux-be", "initramfs-be-calm.cpio.gz", "console=ttyUL0 quiet rdinit=/bin/calm"),
        "ml605": Files("vmlinux-le", "initramfs-le-calm.cpio.gz", "console=ttyS0,115200 quiet rdinit=/bin/calm"),
    }
)


def boot_of(guest: str, folder: Path) -> dict[str, str]:
    """The properties of the boot CPU; FileNotFoundError that names what is missing."""
    files = FILES[guest]
    boot = {"append": files.append}
    for name in "firmware", "kernel", "initrd":
        if file := getattr(files, name):
            path = folder / file
            if not path.is_file():
                raise FileNotFoundError(f"{path} is missing: python -m ratite.clients.boots.guests {folder}")
            boot[name] = str(path)
    return boot


def fetch_debian(folder: Path) -> None:
    """Kernel, firmware and initramfs for riscv64."""
    with tempfile.TemporaryDirectory(prefix="ratite-apt-") as made:
        root = Path(made)
        _apt_root(root)
        names = _run(root, "apt-cache", "search", "--names-only", r"^linux-image-6\.12\..*-riscv64$").split()
        kernels = sorted(filter(_KERNEL.fullmatch, names), key=lambda name: [int(n) for n in re.findall(r"\d+", name)])
        if not kernels:
            raise RuntimeError(f"the mirror's suite {SUITE} has no kernel for riscv64")
        packages = (f"{kernels[-1]}:riscv64", "busybox-static:riscv64", "opensbi")
        _run(root, "apt-get", "download", "-q", *packages)
        for package in root.glob("*.deb"):
            subprocess.run(["dpkg-deb", "-x", package, root / "tree"], check=True)
        tree = root / "tree"
        (folder / "linux-riscv64-Image").write_bytes(next(tree.glob("boot/vmlinu*")).read_bytes())
        for bits in 64, 32:
            place = folder / f"opensbi-riscv{bits}"
            place.mkdir(exist_ok=True)
            for file in tree.glob(f"usr/lib/riscv{bits}-linux-gnu/opensbi/generic/fw_*"):
                (place / file.name).write_bytes(file.read_bytes())
        busybox = next(tree.glob("**/bin/busybox")).read_bytes()
        (folder / "initramfs-riscv64.cpio.gz").write_bytes(initramfs(busybox))
        (folder / "initramfs-riscv64-virtio.cpio.gz").write_bytes(initramfs(busybox, _modules(tree)))


def _modules(tree: Path) -> list[tuple[str, bytes]]:
    found = []
    for name in MODULES:
        for path in tree.glob(f"usr/lib/modules/*/kernel/{name}.ko*"):
            data = path.read_bytes()
            found.append((f"{Path(name).name}.ko", lzma.decompress(data) if path.suffix == ".xz" else data))
    return found


def _apt_root(root: Path) -> None:
    for place in "state/lists/partial", "cache/archives/partial":
        (root / place).mkdir(parents=True)
    (root / "state/status").write_text("")
    own = subprocess.run(["dpkg", "--print-architecture"], capture_output=True, text=True, check=True).stdout.strip()
    (root / "apt.conf").write_text(_CONF.format(root=root, own=own))
    (root / "sources.list").write_text(f"deb [signed-by={_keyring()}] {_mirror()} {SUITE} main\n")
    _run(root, "apt-get", "update", "-q")


def _mirror() -> str:
    """The first Debian mirror that the host is set up with."""
    for path in (Path("/etc/apt/sources.list"), *sorted(Path("/etc/apt/sources.list.d").glob("*"))):
        text = path.read_text() if path.is_file() else ""
        if found := mirror_in(text):
            return found
    return "http://deb.debian.org/debian"


def mirror_in(text: str) -> str:
    """The first Debian mirror that a file of apt's sources, of either form, names; ""."""
    found = re.search(r"^(?:URIs:|deb(?: \[[^]]*\])?)\s+(\S+/debian)/?\s", text, re.MULTILINE)
    return found[1] if found else ""


def _keyring() -> str:
    return "/usr/share/keyrings/debian-archive-keyring.gpg"


def _run(root: Path, *command: str) -> str:
    done = subprocess.run(
        command, cwd=root, env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "APT_CONFIG": str(root / "apt.conf"), "LC_ALL": "C"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip() or done.returncode}")
    return done.stdout


def unpack_microblaze(folder: Path) -> None:
    """Both MicroBlaze guests."""
    with tarfile.open(MICROBLAZE) as archive:
        archive.extractall(folder, filter="data")
    for order, board in ("be", "mb"), ("le", "mbel"):
        calm = (ELFS / f"calm.{board}-linux.elf").read_bytes()
        image = with_program((folder / f"initramfs-{order}.cpio.gz").read_bytes(), "calm", calm)
        (folder / f"initramfs-{order}-calm.cpio.gz").write_bytes(image)


def main(args: Sequence[str]) -> int:
    """FOLDER"""
    if len(args) != 1:
        print(__doc__, file=sys.stderr)
        return 2
    folder = Path(args[0])
    folder.mkdir(parents=True, exist_ok=True)
    for guest, make in ("riscv64", fetch_debian), ("s3adsp1800", unpack_microblaze):
        try:
            boot_of(guest, folder)
        except FileNotFoundError:
            print(f"{guest}: fetching", flush=True)
            try:
                make(folder)
            except (OSError, RuntimeError, subprocess.SubprocessError, tarfile.TarError) as error:
                print(f"{guest}: {error}", file=sys.stderr)
                return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
