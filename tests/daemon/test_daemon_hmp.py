"""The human monitor's commands over QMP: each does what its QMP command does, and says what QEMU's would."""

from __future__ import annotations

import base64
import json
import subprocess
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import pytest

from ratite.clients.qmp import Client, DaemonProcess

RAM = 0x80000000


@pytest.fixture
def machine(daemon: DaemonProcess, tmp_path: Path) -> Iterator[Client]:
    """A hart with RAM, a disk, a card, a serial line; realized, paused."""
    (tmp_path / "image").write_bytes(bytes(1 << 20))
    with daemon.client() as qmp:
        qmp.execute("machine-create")
        qmp.execute("object-add", {"qom-type": "address-space", "id": "view"})
        qmp.execute("object-add", {"qom-type": "memory-backend-ram", "id": "ram", "size": 1 << 20})
        qmp.execute("map-region", space="view", region="ram", offset=RAM)
        qmp.execute("object-add", {"qom-type": "cpu-cluster", "id": "harts", "target": "riscv64", "accel": "interp",
                                   "address-space": "view"})  # fmt: skip
        options = {"reset-pc": RAM, "start-powered-off": True, "pmp": False}
        qmp.execute("device_add", options, driver="rv64-riscv-cpu", id="hart0", cluster="harts")
        qmp.execute("blockdev-add", {"driver": "file", "filename": str(tmp_path / "image"), "node-name": "d0"})
        qmp.execute("netdev_add", id="n0", type="socket", listen="127.0.0.1:0")
        for number, device in enumerate(("virtio-blk-device", "virtio-net-device")):
            qmp.execute("device_add", driver="virtio-mmio", id=f"slot{number}", **{"address-space": "view"})
            qmp.execute("map-region", space="view", region=f"slot{number}", offset=0x10001000 + 0x1000 * number)
            option = {"drive": "d0"} if number == 0 else {"netdev": "n0", "mac": "52:54:00:12:34:56"}
            qmp.execute("device_add", driver=device, id=f"v{number}", bus=f"slot{number}.0", **option)
        qmp.execute("device_add", driver="ns16550", id="uart0")
        qmp.execute("x-exit-preconfig")
        qmp.execute("stop")
        yield qmp


def hint(command: str) -> str:
    return f'Try "help {command}" for more information\n'


def test_what_the_host_gives(machine: Client, tmp_path: Path) -> None:
    image = tmp_path / "image"
    assert machine.hmp("info block") == f"d0: {image} (file)\n    Attached to:      v0\n    Cache mode:       writeback\n"
    assert machine.hmp("info block -v d0").endswith(
        f"\nImages:\nimage: {image}\nfile format: file\nvirtual size: 1 MiB (1048576 bytes)\ndisk size: 1 MiB\n"
    )
    assert machine.hmp("info block -n") == f"d0: {image} (file)\n    Cache mode:       writeback\n"
    assert machine.hmp("info block -v nope") == ""
    assert machine.hmp("info block -x") == f"block: unsupported option -x\n{hint('info block')}"
    assert machine.hmp("info blockstats").startswith(": rd_bytes=0 wr_bytes=0 rd_operations=0")
    assert machine.hmp("info network") == (
        "v1: index=0,type=nic,model=virtio-net-device,macaddr=52:54:00:12:34:56\n"
        " \\ n0: index=0,type=socket,listen=127.0.0.1:0\n"
    )
    assert machine.hmp("info virtio") == "/machine/peripheral/v0 [virtio-blk]\n/machine/peripheral/v1 [virtio-net]\n"
    assert machine.hmp("info memory_size_summary") == "base memory: 1048576\n"
    assert machine.hmp("info ramblock").splitlines()[1].split()[0] == "ram"
    assert machine.hmp("info snapshots") == "no block device can store vmstate for snapshot\n"
    assert machine.hmp("info kvm").startswith("kvm support: ")


def test_memory_backends(machine: Client) -> None:
    text = machine.hmp("info memdev")
    assert text.startswith("memory backend: ram\n  size:  1048576\n  merge: true\n  dump: true\n  prealloc: false\n")
    assert text.endswith("  policy: default\n  host nodes: \n\n")


def test_trees(machine: Client) -> None:
    brief = machine.hmp("info qtree -b")
    slot = '  dev: virtio-mmio, id "slot0"\n    bus: slot0.0\n      type virtio-bus\n      dev: virtio-blk-device, id "v0"\n'
    assert slot in brief
    full = machine.hmp("info qtree")
    assert '    drive = "/blockdevs/d0"\n' in full
    assert [line for line in full.splitlines() if " dev: " in line] == [line for line in brief.splitlines() if " dev: " in line]
    assert machine.hmp("info mtree x") == f"mtree: extraneous characters at the end of line\n{hint('info mtree')}"


def test_registers_stand_in_rows(machine: Client) -> None:
    lines = machine.hmp("info registers").splitlines()
    assert lines[:3] == ["", "CPU#0", f" pc       {RAM:016x}"]
    assert f" x0/zero  {0:016x} x1/ra    {0:016x} x2/sp    {0:016x} x3/gp    {0:016x}" in lines
    assert any(line.startswith(" mstatus  ") for line in lines)
    assert machine.hmp("info registers 7") == "CPU#7 not available\n"
    assert machine.hmp("info registers -a -b") == f"invalid char 'b' in expression\n{hint('info registers')}"


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("cpu", f"unexpected end of expression\n{hint('cpu')}"),
        ("cpu abc", f"invalid char 'a' in expression\n{hint('cpu')}"),
        ("cpu 9", "invalid CPU index\n"),
        ("cpu 0", ""),
        ("device_del", f"device_del: string expected\n{hint('device_del')}"),
        ("device_del nope", "Error: Device 'nope' not found\n"),
        ("device_add", "Error: Parameter 'driver' is missing\n"),
        ("device_add nope,id=x", "Error: 'nope' is not a valid device model name\n"),
        ("object_add", f"object_add: string expected\n{hint('object_add')}"),
        ("object_add memory-backend-ram,id=m1", "Error: Parameter 'size' is missing\n"),
        ("object_del m1", "Error: object 'm1' not found\n"),
        ("chardev-add null", "Error: chardev: no id specified\n"),
        ("chardev-remove c2", "Error: Chardev 'c2' not found\n"),
        ("netdev_add", "Error: Parameter 'id' is missing\n"),
        ("netdev_add nope,id=n3", "Error: Parameter 'type' does not accept value 'nope'\n"),
        ("block_resize d9 x", f"invalid size\n{hint('block_resize')}"),
        ("block_resize d9 1", "Error: Cannot find device='d9' nor node-name=''\n"),
        ("netdev_del n9", "Error: Device 'n9' not found\n"),
        ("qom-list /nope", "Error: Device '/nope' not found\n"),
        ("qom-get /machine", f"qom-get: string expected\n{hint('qom-get')}"),
        ("qom-get /machine nope", "Error: Property 'hetero-machine.nope' not found\n"),
        ("memsave 0x80000000", f"unexpected end of expression\n{hint('memsave')}"),
        ("pmemsave 0 16 \"/nope\"", "Error: Invalid addr 0x0000000000000000/size 16 specified\n"),
        ("nmi", "Error: machine does not provide NMIs\n"),
        ("p (1", f"')' expected\n{hint('p')}"),
        ("p 5 4", f"print|p: extraneous characters at the end of line\n{hint('p')}"),
        ("p/c 65", "'A'\n"),
        ("c x", f"cont|c: extraneous characters at the end of line\n{hint('c')}"),
        ("help nope", "unknown command: 'nope'\n"),
        ("help info nope", "unknown command: 'info nope'\n"),
        ("? cont", "cont|c  -- resume emulation\n"),
        ("system_wakeup", "Error: wake-up from suspend is not supported by this guest\n"),
        ("gva2gpa 0x1000", "gpa: 0x1000\n"),
        ('ringbuf_write "a b', f"ringbuf_write: string expected\n{hint('ringbuf_write')}"),
    ],
)
def test_words(machine_words: Client, line: str, said: str) -> None:
    assert machine_words.hmp(line) == said


@pytest.fixture(scope="module")
def machine_words(shared: str) -> Iterator[Client]:
    """A machine that these lines leave as it is."""
    with Client.connect(f"unix:{shared}") as qmp:
        qmp.execute("machine-create")
        qmp.execute("object-add", {"qom-type": "address-space", "id": "view"})
        qmp.execute("object-add", {"qom-type": "cpu-cluster", "id": "harts", "target": "riscv64", "accel": "interp",
                                   "address-space": "view"})  # fmt: skip
        qmp.execute("device_add", driver="rv64-riscv-cpu", id="hart0", cluster="harts")
        qmp.execute("x-exit-preconfig")
        yield qmp


def test_what_lines_change(machine: Client, tmp_path: Path) -> None:
    assert machine.hmp("object_add memory-backend-ram,id=m1,size=1M") == ""
    assert machine.hmp("qom-get m1 size") == "1048576\n"
    assert machine.hmp("object_del m1") == ""
    assert machine.hmp("netdev_add socket,id=n1,listen=127.0.0.1:0") == ""
    assert "n1: index=0,type=socket,listen=127.0.0.1:0\n" in machine.hmp("info network")
    assert machine.hmp("netdev_del n1") == ""
    assert machine.hmp("chardev-add ringbuf,id=ring,size=16") == ""
    assert machine.hmp('ringbuf_write ring "a  b"') == ""
    assert machine.hmp("ringbuf_read ring 16") == '"a  b"\n'
    assert machine.hmp(f"chardev-change ring file,path={tmp_path}/a,,b") == ""
    assert "ring: filename=file\n" in machine.hmp("info chardev")
    assert machine.hmp("chardev-remove ring") == ""
    assert (tmp_path / "a,b").exists()
    assert machine.hmp("qom-set v0 nope 1") == "Error: Property 'virtio-blk-device.nope' not found\n"
    machine.hmp("c")
    assert machine.wait_event("RESUME")
    machine.hmp("s")
    assert machine.wait_event("STOP")
    machine.hmp("system_reset")
    assert machine.wait_event("RESET")["data"]["reason"] == "host-qmp-system-reset"


def test_memory(machine: Client, tmp_path: Path) -> None:
    machine.execute("memory-write", address=RAM, data=base64.b64encode(bytes(range(16))).decode())
    assert machine.hmp(f'memsave {RAM:#x} 8 "{tmp_path}/a file"') == ""
    assert (tmp_path / "a file").read_bytes() == bytes(range(8))
    assert machine.hmp(f'pmemsave {RAM:#x}+8 8 "{tmp_path}/b"') == ""
    assert (tmp_path / "b").read_bytes() == bytes(range(8, 16))
    # What BSD's sum(1) says of these bytes.
    assert machine.hmp(f"sum {RAM:#x} 16") == "00032\n"


def test_a_dump_is_waited_for_unless_it_is_detached(machine: Client, tmp_path: Path) -> None:
    assert machine.hmp("info dump") == "Status: none\n"
    assert machine.hmp(f'dump-guest-memory "{tmp_path}/core" {RAM:#x} 0x1000') == ""
    assert machine.hmp("info dump") == "Status: completed\n"
    assert (tmp_path / "core").read_bytes().startswith(b"\x7fELF")
    assert machine.hmp(f'dump-guest-memory -d "{tmp_path}/other"') == ""
    assert machine.wait_event("DUMP_COMPLETED")
    assert machine.hmp(f'dump-guest-memory -p "{tmp_path}/other"').startswith("Error: Parameter 'paging' must be false")
    assert machine.hmp(f'dump-guest-memory "{tmp_path}/other" 0x1000').startswith("Error: Parameter 'length' is missing")
    assert machine.hmp("info block-jobs") == "No active jobs\n"


def test_virtual_addresses_are_translated_as_the_hart_would(machine: Client, tmp_path: Path) -> None:
    def words(address: int, *values: int) -> None:
        data = b"".join(value.to_bytes(8, "little") for value in values)
        machine.execute("memory-write", address=address, data=base64.b64encode(data).decode())

    root, middle, leaves, page = RAM + 0x1000, RAM + 0x2000, RAM + 0x3000, RAM + 0x5000
    virtual = 0x40201000
    words(root + 8 * (virtual >> 30 & 511), middle >> 2 | 1)
    words(middle + 8 * (virtual >> 21 & 511), leaves >> 2 | 1)
    # Neither accessed nor dirty: a hart would set that, who looks doesn't.
    leaf = page >> 2 | 0x0F
    words(leaves + 8 * (virtual >> 12 & 511), leaf, (page + 0x1000) >> 2 | 0x0F)
    words(page + 0xFF8, 0x1122334455667788, 0xAABBCCDD)
    for name, value in (("satp", 8 << 60 | root >> 12), ("priv", 1)):
        machine.execute("qom-set", path="hart0", property=name, value=value)
    assert machine.hmp(f"gva2gpa {virtual:#x}+4") == f"gpa: {page + 4:#x}\n"
    assert machine.hmp("gva2gpa 0x1000") == "Unmapped\n"
    assert machine.hmp(f"x/2xg {virtual + 0xFF8:#x}") == f"{virtual + 0xFF8:016x}: 0x1122334455667788 0x00000000aabbccdd\n"
    assert "Cannot access memory" in machine.hmp("x/2xg 0x1000")
    assert machine.hmp(f'memsave {virtual + 0xFFC:#x} 8 "{tmp_path}/v"') == ""
    assert (tmp_path / "v").read_bytes() == bytes.fromhex("44332211ddccbbaa")
    assert machine.hmp(f'memsave {virtual:#x} 0x3000 "{tmp_path}/w"').startswith("Error: Invalid addr")
    (piece,) = machine.execute("query-memory", address=leaves + 8 * (virtual >> 12 & 511), size=8)
    assert int.from_bytes(base64.b64decode(piece["data"]), "little") == leaf


def test_help_names_what_the_view_has(machine: Client) -> None:
    ours = machine.hmp("help info")
    assert "info targets  -- " in ours
    for text in (ours, machine.hmp("help")):
        assert all(" -- " in line for line in text.splitlines())
    machine.execute("view-select", personality="qemu")
    theirs = machine.hmp("help info")
    assert "info status  -- show the current VM status (running|paused)\n" in theirs
    for name in ("targets", "phase", "accelerators"):
        assert f"info {name} " not in theirs
        assert machine.hmp(f"info {name}") == f"unknown command: 'info {name}'\n"


@pytest.mark.parametrize("accel", ["interp", "jit"])
def test_instructions_are_logged_when_they_are_first_decoded(path: str, accel: str) -> None:
    with DaemonProcess(path, "-S", "--log-json", stderr=subprocess.PIPE) as process, process.client() as qmp:
        qmp.set_timeout(300)  # native code may have to be compiled first
        qmp.execute("machine-create")
        qmp.execute("object-add", {"qom-type": "address-space", "id": "view"})
        qmp.execute("object-add", {"qom-type": "memory-backend-ram", "id": "ram", "size": 1 << 20})
        qmp.execute("map-region", space="view", region="ram", offset=RAM)
        for name in ("a", "b"):
            qmp.execute("object-add", {"qom-type": "cpu-cluster", "id": name, "target": "riscv64", "accel": accel,
                                       "address-space": "view"})  # fmt: skip
            qmp.execute("device_add", {"reset-pc": RAM}, driver="rv64-riscv-cpu", id=f"hart-{name}", cluster=name)
        qmp.execute("x-exit-preconfig")
        # addi a0, a0, 1; j back to it
        qmp.execute("memory-write", address=RAM, data=base64.b64encode(bytes.fromhex("13051500" "6ff0dfff")).decode())
        assert qmp.hmp("log nope").startswith("Log items (comma separated):\nnone ")
        qmp.execute("qom-set", path="hart-a", property="log-code", value=True)
        assert qmp.execute("qom-get", path="hart-b", property="log-code") is False
        qmp.execute("cont")
        assert process.process.stderr is not None
        with process.process.stderr as stream:
            rows = list(islice((row for row in map(json.loads, stream) if row["event"] == "in_asm"), 2))
        assert [(row["cpu"], row["at"], row["code"]) for row in rows] == [
            ("/machine/peripheral/hart-a", hex(RAM), "13051500"), ("/machine/peripheral/hart-a", hex(RAM + 4), "6ff0dfff"),
        ]  # fmt: skip
        assert rows[0]["text"].split() == ["addi", "a0,", "a0,", "1"]
        assert qmp.hmp("log in_asm") == ""
        assert qmp.execute("qom-get", path="hart-b", property="log-code") is True
        assert qmp.hmp("log none") == ""
        assert qmp.execute("qom-get", path="hart-a", property="log-code") is False


def test_watchdogs_and_jobs_of_disks(path: str) -> None:
    with DaemonProcess(path) as process, process.client() as qmp:
        assert qmp.hmp("watchdog_action pause") == ""
        assert "does not accept value 'zz'" in qmp.hmp("watchdog_action zz")
        assert "Block job 'zz' not found" in qmp.hmp("block_job_cancel -f zz")
        qmp.execute("machine-create")
        assert qmp.hmp("log guest_errors,unimp") == ""
        assert qmp.hmp("info numa") == "0 nodes\n"
