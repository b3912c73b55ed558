"""Dumps of guest memory: core files for each architecture, in files and pipes, wanted no more, impossible."""

from __future__ import annotations

import os
import struct
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from fuzz_world import World

from ratite.clients.qmp import Client, CommandError, DaemonProcess
from ratite.qapi.errors import GenericError

RAM, SIZE = 0x80000000, 0x40000


def refusal(qmp: Client, command: str, **arguments: object) -> str:
    with pytest.raises(CommandError) as caught:
        qmp.execute(command, arguments)
    return caught.value.desc


def assemble(qmp: Client, tmp_path: Path, *targets: str, size: int = SIZE) -> None:
    """CPUs that loop at the beginning of the memory; a hole, then more memory."""
    (tmp_path / "loop").write_bytes(struct.pack("<I", 0x0000006F) + b"marker" + bytes(2))
    qmp.execute("machine-create")
    qmp.execute("object-add", {"qom-type": "address-space", "id": "mem"})
    for n, offset in enumerate((RAM, RAM + size, RAM + 8 * size)):
        qmp.execute("object-add", {"qom-type": "memory-backend-ram", "id": f"ram{n}", "size": size})
        qmp.execute("map-region", space="mem", region=f"ram{n}", offset=offset)
    for n, target in enumerate(targets):
        cpu = "microblaze-cpu" if target.startswith("microblaze") else f"rv{target[-2:]}-riscv-cpu"
        cluster = {"qom-type": "cpu-cluster", "id": f"c{n}", "target": target, "address-space": "mem", "accel": "interp"}
        qmp.execute("object-add", cluster)
        program = {"image-raw": str(tmp_path / "loop"), "image-addr": RAM} if n == 0 else {"start-powered-off": True}
        qmp.execute("device_add", {"driver": cpu, "id": f"cpu{n}", "cluster": f"c{n}", "reset-pc": RAM, **program})
    qmp.execute("x-exit-preconfig")


def parse(data: bytes) -> tuple[int, list[bytes], dict[int, bytes]]:
    """(machine, notes' contents, memory by address)."""
    assert data[:4] == b"\x7fELF"
    wide, order = data[4] == 2, "<" if data[5] == 1 else ">"
    kind, machine = struct.unpack_from(order + "HH", data, 16)
    assert kind == 4
    offset = struct.unpack_from(order + ("Q" if wide else "I"), data, 32 if wide else 28)[0]
    each, count = struct.unpack_from(order + "HH", data, 54 if wide else 42)
    notes, memory = [], {}
    for n in range(count):
        row: Any = struct.unpack_from(order + ("IIQQQQQQ" if wide else "IIIIIIII"), data, offset + n * each)
        kind, at, address, size = (row[0], row[2], row[4], row[5]) if wide else (row[0], row[1], row[3], row[4])
        if kind == 1:
            memory[address] = data[at : at + size]
            continue
        end = at + size
        while at < end:
            name, length, note = struct.unpack_from(order + "III", data, at)
            assert (name, note, data[at + 12 : at + 17]) == (5, 1, b"CORE\0")
            notes.append(data[at + 20 : at + 20 + length])
            at += 20 + length
    return machine, notes, memory


def test_a_core_file_of_one_of_two_targets(daemon: DaemonProcess, tmp_path: Path) -> None:
    with daemon.client() as qmp:
        assert qmp.execute("query-dump") == {"status": "none", "completed": 0, "total": 0}
        assemble(qmp, tmp_path, "riscv64", "microblazeel")
        assert qmp.execute("query-dump-guest-memory-capability") == {"formats": ["elf"]}
        qmp.wait_event("RESUME")
        path = tmp_path / "core"
        qmp.execute("dump-guest-memory", paging=False, protocol=f"file:{path}")
        qmp.wait_event("STOP")
        result = {"status": "completed", "completed": 3 * SIZE, "total": 3 * SIZE}
        assert qmp.wait_event("DUMP_COMPLETED")["data"] == {"result": result}
        qmp.wait_event("RESUME")
        assert qmp.execute("query-dump") == result
        machine, notes, memory = parse(path.read_bytes())
        assert machine == 243 and {at: len(data) for at, data in memory.items()} == {RAM: 2 * SIZE, RAM + 8 * SIZE: SIZE}
        assert memory[RAM][4:10] == b"marker"
        (status,) = notes
        assert len(status) == 376 and struct.unpack_from("<I", status, 32) == (1,)
        assert struct.unpack_from("<Q", status, 112) == (RAM,)
        qmp.execute("qom-set", path="/machine", property="primary-target", value="microblazeel")
        qmp.execute("stop")
        qmp.execute("qom-set", path="/machine/peripheral/cpu1", property="r31", value=0x12345678)
        qmp.execute("dump-guest-memory", paging=False, protocol=f"file:{path}", begin=RAM + SIZE - 16, length=32)
        machine, notes, memory = parse(path.read_bytes())
        assert machine == 189 and memory == {RAM + SIZE - 16: bytes(32)}
        assert len(notes[0]) == 72 + 38 * 4 + 4 and struct.unpack_from("<II", notes[0], 72 + 31 * 4) == (0x12345678, RAM)
        assert qmp.execute("query-status")["status"] == "paused", "it was"


def test_a_pipe_that_is_read_slowly_and_one_that_is_not(daemon: DaemonProcess, tmp_path: Path) -> None:
    with daemon.client() as qmp, daemon.client() as other:
        assemble(qmp, tmp_path, "riscv32")
        read, write = os.pipe()
        qmp.execute("getfd", fds=[write], fdname="core")
        os.close(write)
        qmp.execute("dump-guest-memory", {"paging": False, "protocol": "fd:core", "detach": True})
        assert other.execute("query-dump")["status"] == "active"
        busy = "There is a dump in process, please wait."
        assert refusal(other, "cont") == busy
        assert refusal(other, "dump-guest-memory", paging=False, protocol=f"file:{tmp_path}/x") == busy
        with open(read, "rb") as stream:
            machine, notes, memory = parse(stream.read())
        assert machine == 243 and len(notes[0]) == 204 and sum(map(len, memory.values())) == 3 * SIZE
        qmp.wait_event("DUMP_COMPLETED")
        qmp.wait_event("RESUME")
        read, write = os.pipe()
        qmp.execute("getfd", fds=[write], fdname="core")
        os.close(write)
        qmp.execute("dump-guest-memory", {"paging": False, "protocol": "fd:core", "detach": True})
        os.close(read)
        data = qmp.wait_event("DUMP_COMPLETED")["data"]
        assert data["result"]["status"] == "failed" and data["error"] == "dump: failed to save memory: Broken pipe"
        read, write = os.pipe()
        qmp.execute("getfd", fds=[write], fdname="core")
        os.close(write)
        qmp.execute("dump-guest-memory", {"paging": False, "protocol": "fd:core", "detach": True})
        qmp.execute("quit")
    assert daemon.process.wait(60) == 0
    os.close(read)


def test_who_waits_for_a_dump_is_told_that_the_machine_goes() -> None:
    read, write = os.pipe()
    os.set_blocking(write, False)
    with ThreadPoolExecutor(1) as pool:
        with World("paused") as world:
            dumper = world.daemon.machine.dumper
            world.daemon.machine.owner.post(dumper.start, write).result()
            waiting = pool.submit(dumper.wait)
        with pytest.raises(GenericError, match="dump: the machine is going away"):
            waiting.result()
    os.close(read)


def test_what_cannot_be_dumped(daemon: DaemonProcess, tmp_path: Path) -> None:
    with daemon.client() as qmp:
        assemble(qmp, tmp_path, "riscv64")
        good = {"paging": False, "protocol": f"file:{tmp_path}/core"}
        for wrong, words in (
            ({"begin": RAM}, "Parameter 'length' is missing"),
            ({"length": 4096}, "Parameter 'begin' is missing"),
            ({"begin": -1, "length": 1}, "Parameter 'begin' expects a non-negative value"),
            ({"begin": RAM, "length": 0}, "parameter 'length' expects a non-zero size"),
            ({"begin": 0, "length": 4096}, "dump: no guest memory to dump"),
            ({"paging": True}, "Parameter 'paging' must be false: addresses of core files are physical ones"),
            ({"protocol": "ftp:x"}, "parameter 'protocol' must start with 'file:' or 'fd:'"),
            ({"protocol": "file"}, "parameter 'protocol' must start with 'file:' or 'fd:'"),
            ({"protocol": "fd:nofd"}, "File descriptor named 'nofd' has not been found"),
            ({"protocol": "file:/nonexistent/x"}, "Could not create '/nonexistent/x': No such file or directory"),
            ({"protocol": "file:a\0b"}, "Parameter 'protocol' must not contain a NUL character"),
            ({"format": "kdump-zlib"}, "Parameter 'format' does not accept value 'kdump-zlib'"),
        ):
            assert refusal(qmp, "dump-guest-memory", **{**good, **wrong}) == words
        assert qmp.execute("query-dump")["status"] == "none"
        qmp.execute("dump-guest-memory", paging=False, protocol="file:/dev/full", detach=True)
        assert qmp.wait_event("DUMP_COMPLETED")["data"]["error"] == "dump: failed to save memory: No space left on device"
