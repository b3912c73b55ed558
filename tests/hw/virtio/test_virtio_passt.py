"""A Linux guest on the host's network by passt: an address by DHCP, TCP either way to a listener of the host's."""

from __future__ import annotations

import hashlib
import os
import shutil
import socket
from pathlib import Path

import pytest

from tests.debian import MARKS, PATIENCE, booted

pytestmark = [*MARKS, pytest.mark.skipif(shutil.which("passt") is None, reason="passt isn't installed")]
MODULES = "virtio_mmio failover net_failover virtio_net"
#: udhcpc's script: the address, and on the console where the gateway is, by which guests reach the host's loopback
SCRIPT = (
    r"printf '#!/bin/sh\n[ $1 = bound ] && ip addr add $ip/$mask dev eth0 && ip route add default via $router "
    r"&& echo gateway=$router=\n' > /tmp/s"
)
SIZE = 1 << 20


def test_dhcp_and_tcp(tmp_path: Path) -> None:
    more = [
        ("netdev_add", {"type": "user", "id": "n0", "ipv6": False}),
        ("device_add", {"driver": "virtio-net-device", "id": "nic", "netdev": "n0", "bus": "virtio1.0"}),
    ]
    with socket.socket() as listener, booted(tmp_path, more) as guest:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        listener.settimeout(PATIENCE)
        port = listener.getsockname()[1]
        guest.sh(f"stty -echo; cd /lib/modules; for m in {MODULES}; do insmod $m.ko; done; ip link set eth0 up")
        said = guest.sh(f"{SCRIPT}; chmod +x /tmp/s; busybox udhcpc -i eth0 -n -q -s /tmp/s")
        gateway = said.split("gateway=")[1].split("=")[0]
        data = os.urandom(SIZE)
        guest.console.sock.sendall(f"nc {gateway} {port} > /tmp/file; sha256sum < /tmp/file; echo @@$((40+3))@@\n".encode())
        far, _ = listener.accept()
        with far:
            far.sendall(data)
        assert hashlib.sha256(data).hexdigest() in guest.console.until("@@43@@")
        guest.console.sock.sendall(f"nc {gateway} {port} < /tmp/file; echo @@$((40+4))@@\n".encode())
        far, _ = listener.accept()
        got = b""
        with far:
            far.settimeout(PATIENCE)
            while len(got) < SIZE and (more_data := far.recv(65536)):
                got += more_data
        assert got == data
        guest.console.until("@@44@@")
