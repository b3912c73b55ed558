"""Two real Linux guests in one machine, on virtio over MMIO: disks, consoles, random numbers, and a wire between them. Guest b
has packed virtqueues.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from ratite.clients.boots.initramfs import MARKER
from ratite.clients.boots.machines import linux
from ratite.clients.qmp import Client, DaemonProcess
from tests.debian import BOOT, MARKS, PATIENCE, chardev

pytestmark = MARKS
MIB = 1 << 20
MODULES = "virtio_mmio virtio_blk failover net_failover virtio_net virtio-rng"


#: Guest b's disk stops the machine where the host fails.
STOPS: dict[str, dict[str, str]] = {"a": {}, "b": {"rerror": "stop", "werror": "stop"}}


class Pair:
    """The machine: guests a and b, each with its console, disk image and virtio console."""

    def __init__(self, place: Path, qmp: Client) -> None:
        self.qmp = qmp
        qmp.execute("machine-create")
        wire = {"type": "unix", "path": str(place / "wire")}
        self.images, self.consoles, self.hvcs = {}, {}, {}
        for name in ("a", "b"):
            self.images[name] = place / f"image-{name}"
            self.images[name].write_bytes(os.urandom(4 * MIB))
            self.consoles[name] = chardev(qmp, f"{name}con", place / f"con-{name}")
            self.hvcs[name] = chardev(qmp, f"{name}hvc", place / f"hvc-{name}")
            for command, arguments in linux("riscv64", f"{name}con", BOOT, prefix=name, ram=256 * MIB):
                qmp.execute(command, arguments)
            qmp.execute("blockdev-add", {"driver": "file", "node-name": f"n{name}", "filename": str(self.images[name])})
            qmp.execute("netdev_add", type="stream", id=f"net{name}", addr=wire, server=name == "a")
            devices = (
                ("virtio-blk-device", "blk", {"drive": f"n{name}", "bus": f"{name}virtio1.0", **STOPS[name]}),
                ("virtio-net-device", "nic", {"netdev": f"net{name}", "bus": f"{name}virtio2.0"}),
                ("virtio-rng-device", "rng", {"bus": f"{name}virtio3.0"}),
                ("virtio-serial-device", "ser", {"bus": f"{name}virtio4.0"}),
                ("virtconsole", "hvc", {"bus": f"{name}ser.0", "chardev": f"{name}hvc"}),
            )
            for driver, id, more in devices:
                if driver != "virtconsole":
                    more = {**more, "packed": name == "b"}
                qmp.execute("device_add", driver=driver, id=f"{name}{id}", **more)
        qmp.execute("x-exit-preconfig")
        for name, console in self.consoles.items():
            console.until(MARKER)
            console.sh("stty -echo; cd /lib/modules; for m in " + MODULES + "; do insmod $m.ko; done")
            number = "12"["ab".index(name)]
            console.sh(f"ip addr add 10.0.0.{number}/24 dev eth0; ip link set eth0 up")


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    place = tmp_path_factory.mktemp("p")
    with DaemonProcess(str(place / "qmp")) as daemon, Client.connect(daemon.address, PATIENCE) as qmp:
        pair = Pair(place, qmp)
        yield pair
        for line in (*pair.consoles.values(), *pair.hvcs.values()):
            line.sock.close()


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_what_was_negotiated(pair: Pair) -> None:
    for name in ("a", "b"):
        features = pair.qmp.execute("qom-get", path=f"/machine/peripheral/{name}blk", property="driver-features")
        assert bool(features & 1 << 34) == (name == "b")


def test_disks(pair: Pair) -> None:
    for name, console in pair.consoles.items():
        image = pair.images[name]
        assert digest(image) in console.sh("sha256sum /dev/vda")
        console.sh("dd if=/dev/urandom of=/tmp/data bs=1M count=4; dd if=/tmp/data of=/dev/vda bs=64k conv=fsync")
        assert digest(image) in console.sh("sha256sum /tmp/data")
        assert digest(image) in console.sh("echo 3 > /proc/sys/vm/drop_caches; sha256sum /dev/vda")


def test_an_image_that_shrinks_under_linux(pair: Pair) -> None:
    console, image = pair.consoles["a"], pair.images["a"]
    os.truncate(image, MIB)
    said = console.sh("echo 3 > /proc/sys/vm/drop_caches; dd if=/dev/vda of=/dev/null bs=64k skip=32 count=1")
    assert "Input/output error" in said
    event = pair.qmp.wait_event("BLOCK_IO_ERROR", timeout=PATIENCE)
    assert (event["data"]["qom-path"], event["data"]["operation"]) == ("/machine/peripheral/ablk", "read")
    assert "1+0 records in" in console.sh("dd if=/dev/vda of=/dev/null bs=64k count=1")
    os.truncate(image, 4 * MIB)


def test_a_disk_that_stops_the_machine(pair: Pair) -> None:
    """The guest doesn't notice: what failed is done again."""
    console, image, qmp = pair.consoles["b"], pair.images["b"], pair.qmp
    content = image.read_bytes()
    os.truncate(image, MIB)
    console.sock.sendall(b"echo 3 > /proc/sys/vm/drop_caches; sha256sum /dev/vda; echo @@$((40+4))@@\n")
    event = qmp.wait_event("BLOCK_IO_ERROR", timeout=PATIENCE)
    while event["data"]["qom-path"] == "/machine/peripheral/ablk":  # the other disk's last errors: told a second later
        event = qmp.wait_event("BLOCK_IO_ERROR", timeout=PATIENCE)
    assert (event["data"]["qom-path"], event["data"]["action"]) == ("/machine/peripheral/bblk", "stop")
    qmp.wait_event("STOP", timeout=PATIENCE)
    assert qmp.execute("query-status") == {"running": False, "status": "io-error"}
    assert {info["qdev"][-4:]: info["io-status"] for info in qmp.execute("query-block")} == {"ablk": "ok", "bblk": "failed"}
    with image.open("r+b") as file:
        file.write(content)
    qmp.execute("cont")
    assert hashlib.sha256(content).hexdigest() in console.until("@@44@@")


def test_virtio_consoles_and_random_numbers(pair: Pair) -> None:
    for name, console in pair.consoles.items():
        console.sh(f"echo out of {name} > /dev/hvc0")
        assert pair.hvcs[name].until("\n").strip() == f"out of {name}"
        pair.hvcs[name].sock.sendall(b"into the guest\n")
        assert "into the guest" in console.sh("head -n 1 /dev/hvc0")
        assert "32+0 records in" in console.sh("dd if=/dev/hwrng of=/tmp/rng bs=64 count=32")


def test_the_wire_between_them(pair: Pair) -> None:
    a, b = pair.consoles["a"], pair.consoles["b"]
    assert "3 packets received" in a.sh("ping -c 3 10.0.0.2")
    sent = a.sh("dd if=/dev/urandom of=/tmp/file bs=1M count=4; sha256sum < /tmp/file").split()
    # In the foreground: with its input at an end nc would hang up before it has everything.
    b.sock.sendall(b"nc -l -p 5000 > /tmp/file; echo @@$((40+3))@@\n")
    a.sh("sleep 1; nc 10.0.0.2 5000 < /tmp/file")
    b.until("@@43@@")
    assert next(word for word in b.sh("sha256sum < /tmp/file").split() if len(word) == 64) in sent


def test_a_cable_that_is_pulled_and_a_disk_that_grows(pair: Pair) -> None:
    a, b = pair.consoles["a"], pair.consoles["b"]
    for up, carrier in ((False, "0"), (True, "1")):
        pair.qmp.execute("set_link", name="anic", up=up)
        a.sh(f"until grep -q {carrier} /sys/class/net/eth0/carrier; do sleep 0.1; done")
    assert "1 packets received" in a.sh("ping -c 1 10.0.0.2")
    pair.qmp.execute("block_resize", {"node-name": "nb", "size": 6 * MIB})
    b.sh(f"until grep -q {6 * MIB // 512} /sys/block/vda/size; do sleep 0.1; done")
    assert "1+0 records in" in b.sh("dd if=/dev/vda of=/dev/null bs=1M skip=5 count=1")


def test_power_off(pair: Pair) -> None:
    """By SBI and the finisher that the device tree names; the last test."""
    pair.consoles["a"].sock.sendall(b"poweroff -f\n")
    event = pair.qmp.wait_event("SHUTDOWN", timeout=PATIENCE)
    assert event["data"] == {"guest": True, "reason": "guest-shutdown", "code": 0}
