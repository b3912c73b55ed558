"""An initramfs with a static busybox: `python -m ratite.clients.boots.initramfs BUSYBOX OUT [FILE…]`.

The archive is cpio's "newc" format (Linux, Documentation/driver-api/early-userspace/buffer-format.rst), written here:
device nodes need no root, and equal inputs give equal bytes.  FILEs (kernel modules) go to /lib/modules.

/init mounts proc, sys and dev, prints MARKER and execs a shell; with the word `halt` on the command line it powers off.
Where there are modules for input devices, /bin/powerd waits for the power key beside the shell, and powers off.
"""

from __future__ import annotations

import gzip
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

MARKER = "@@SHELL-READY@@"
APPLETS = (
    "ls cat echo mount uname dmesg poweroff reboot sleep mkdir ln dd md5sum sha256sum gzip gunzip awk seq sort wc head tail "
    "date free ps vi grep sed find test expr cut tr od hexdump halt insmod lsmod mknod nproc cmp true false printf getty stty "
    "time env sh ip ping wget nc mkfs.ext2 blockdev sync devmem hwclock setsid taskset top kill"
)
INIT = f"""#!/bin/sh
mount -t proc proc /proc; mount -t sysfs sysfs /sys; mount -t devtmpfs dev /dev 2>/dev/null
uname -a
echo "uptime: $(cat /proc/uptime)"
echo "{MARKER}"
[ -e /lib/modules/evdev.ko ] && setsid powerd </dev/null >/dev/null 2>&1 &
case "$(cat /proc/cmdline)" in
*halt*) poweroff -f;;
esac
exec sh -i </dev/console >/dev/console 2>&1
"""

# An event of Linux's evdev is 24 bytes: the time, then type 1 (EV_KEY), code 116 (KEY_POWER), value 1 (pressed).
POWERD = """#!/bin/sh
cd /lib/modules
for module in virtio_mmio virtio_input evdev; do insmod $module.ko; done
for try in 1 2 3 4 5 6 7 8 9; do [ -e /dev/input/event0 ] && break; sleep 1; done
while event=$(dd if=/dev/input/event0 bs=24 count=1 2>/dev/null | od -An -v -tx1 | tail -n 1); do
case "$event" in
*"01 00 74 00 01 00 00 00"*) sync; poweroff -f;;
"") exit;;
esac
done
"""

_DIR, _FILE, _LINK, _CHAR = 0o040000, 0o100000, 0o120000, 0o020000


def entry(number: int, name: str, mode: int, data: bytes = b"", device: tuple[int, int] = (0, 0)) -> bytes:
    """One member: a head of hexadecimal numbers, name and data, both padded to 4 bytes."""
    links = 2 if mode & 0o170000 == _DIR else 1
    encoded = name.encode() + b"\0"
    numbers = (number, mode, 0, 0, links, 0, len(data), 0, 0, *device, len(encoded), 0)
    head = b"070701" + b"".join(b"%08X" % n for n in numbers)
    return _padded(head + encoded) + _padded(data)


def archive(members: Iterable[tuple[str, int, bytes, tuple[int, int]]]) -> bytes:
    """The archive of (name, mode, data, (major, minor)) in the order given, ended by its trailer."""
    made = [entry(number, *member) for number, member in enumerate(members, 1)]
    return b"".join((*made, entry(0, "TRAILER!!!", 0)))


def initramfs(busybox: bytes, extra: Sequence[tuple[str, bytes]] = ()) -> bytes:
    """The archive, compressed; `extra` are (name, contents) of files for /lib/modules."""
    none = (0, 0)
    members: list[tuple[str, int, bytes, tuple[int, int]]] = []
    for name in ("bin", "dev", "etc", "lib", "lib/modules", "proc", "root", "sbin", "sys", "tmp"):
        members.append((name, _DIR | 0o755, b"", none))
    members.append(("bin/busybox", _FILE | 0o755, busybox, none))
    members += [(f"bin/{name}", _LINK | 0o777, b"busybox", none) for name in sorted(APPLETS.split())]
    members.append(("dev/console", _CHAR | 0o600, b"", (5, 1)))
    members.append(("dev/null", _CHAR | 0o666, b"", (1, 3)))
    members += [(f"lib/modules/{name}", _FILE | 0o644, data, none) for name, data in extra]
    members += [(name, _FILE | 0o755, text.encode(), none) for name, text in (("bin/powerd", POWERD), ("init", INIT))]
    return gzip.compress(archive(members), 9, mtime=0)


def with_program(initramfs: bytes, name: str, program: bytes) -> bytes:
    """The initramfs with /bin/NAME: an archive behind an archive, as Linux reads them."""
    return initramfs + gzip.compress(archive([(f"bin/{name}", _FILE | 0o755, program, (0, 0))]), mtime=0)


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)


def main(args: Sequence[str]) -> int:
    """BUSYBOX OUT [FILE…]"""
    if len(args) < 2:
        print(__doc__, file=sys.stderr)
        return 2
    extra = [(Path(path).name, Path(path).read_bytes()) for path in args[2:]]
    Path(args[1]).write_bytes(initramfs(Path(args[0]).read_bytes(), extra))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
