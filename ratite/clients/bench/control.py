"""The control plane: making instances, what they take, calls per second, events to many clients; QEMU beside it."""

from __future__ import annotations

import selectors
import socket
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

from ratite.clients.bench.report import Row
from ratite.clients.bench.subjects import Session, Subject
from ratite.clients.control import ControlClient, ControlError

INSTANCES = 200
MACHINES = 20
PEERS = 10
CALLS = 10_000
CLIENTS = 500
EVENTS = 40

# addi x1, x1, 1; j -4: busy for ever, and nothing like idling.
_LOOP = struct.pack("<II", 0x00108093, 0xFFDFF06F)

Say = Callable[[str], None]


def measure(theirs: Subject | None, board: Subject | None, count: int, say: Say) -> list[Row]:
    """All rows; `theirs` and `board` are QEMU without a machine and with one."""
    name = theirs.name if theirs else "not installed"
    with tempfile.TemporaryDirectory(prefix="ratite-bench-") as folder:
        (Path(folder) / "loop").write_bytes(_LOOP)
        with plane(folder) as control:
            made, started = _create(control, theirs, count, say)
            rows = [Row("instance-create to its answer, warm", "ms", made, started, name, False, 10.0)]
            say("control: calls")
            address = f"unix:{folder}/sock"
            rows.append(Row("JSON-RPC calls on one WebSocket", "calls/s", _calls(address), [], "none", True, 5000.0))
            rows += _memory(control, theirs, board, say)
            rows += _fan_out(control, address, say)
    return rows


@contextmanager
def plane(folder: str) -> Iterator[ControlClient]:
    """A control plane at `folder`/sock, ended with the `with` block."""
    command = [sys.executable, "-m", "ratite.daemon", "--control", f"unix:{folder}/sock", "--allow-dir", f"bench={folder}"]
    with subprocess.Popen([*command, "--limit", "files=256"], stdin=subprocess.DEVNULL) as process:
        try:
            with _connect(process, f"unix:{folder}/sock") as control:
                yield control
        finally:
            process.terminate()


def _connect(process: subprocess.Popen[bytes], address: str) -> ControlClient:
    while True:
        try:
            return ControlClient.connect(address)
        except ControlError:
            if process.poll() is not None:
                raise
            time.sleep(0.002)


def _create(control: ControlClient, theirs: Subject | None, count: int, say: Say) -> tuple[list[float], list[float]]:
    """Milliseconds of each, in turns."""
    ours: list[float] = []
    other: list[float] = []
    control.instance_create(instance="warm")
    control.instance_end(instance="warm")
    for number in range(count):
        say(f"control: instance {number} of {count}")
        before = time.perf_counter()
        control.instance_create(instance="bench")
        ours.append((time.perf_counter() - before) * 1e3)
        control.instance_end(instance="bench")
        if theirs is not None:
            with Session(theirs) as session:
                other.append(session.started * 1e3)
    return ours, other


def _memory(control: ControlClient, theirs: Subject | None, board: Subject | None, say: Say) -> list[Row]:
    rows = []
    for name, count, peer, machine, goal in (
        (f"private memory of {INSTANCES} idle instances, each", INSTANCES, theirs, False, 12e6 / (1 << 20)),
        (f"the same of {MACHINES} with a realized RV64 machine, each", MACHINES, board, True, None),
    ):
        say(f"control: {count} instances")
        names = [control.instance_create(paused=True)["instance"] for _ in range(count)]
        if machine:
            for instance in names:
                _assemble(control, instance)
        sizes = [control.instance_inspect(instance=instance)["private-memory"] / (1 << 20) for instance in names]
        for instance in names:
            control.instance_end(instance=instance)
        rows.append(Row(name, "MiB", sizes, _peers(peer), peer.name if peer else "not installed", False, goal))
    return rows


def _peers(subject: Subject | None) -> list[float]:
    if subject is None:
        return []
    sessions = [Session(subject) for _ in range(PEERS)]
    try:
        return [session.private_memory() for session in sessions]
    finally:
        for session in sessions:
            session.__exit__()


def _assemble(control: ControlClient, instance: str) -> None:
    def qmp(execute: str, **arguments: Any) -> None:
        given = {name.replace("_", "-"): value for name, value in arguments.items()}
        control.instance_qmp(instance=instance, execute=execute, arguments=given)

    qmp("machine-create")
    qmp("object-add", qom_type="address-space", id="view")
    qmp("object-add", qom_type="memory-backend-ram", id="ram", size=128 << 20)
    qmp("map-region", space="view", region="ram", offset=1 << 31)
    qmp("object-add", qom_type="cpu-cluster", id="cluster", target="riscv64", address_space="view")
    qmp("device_add", driver="rv64-riscv-cpu", id="cpu", cluster="cluster", image_raw="bench/loop", image_addr=1 << 31)
    qmp("device_add", driver="ns16550", id="uart")
    qmp("map-region", space="view", region="uart", offset=0x10000000)
    qmp("x-exit-preconfig")


def _calls(address: str) -> list[float]:
    """Calls a second, sent and read side by side on one connection."""
    with ControlClient.connect(address) as client:
        sock = socket.socket(fileno=client.fileno())
        text = '{"jsonrpc":"2.0","id":%d,"method":"instance-list","params":{}}'
        rates = []
        try:
            for _ in range(5):
                data = memoryview(b"".join(client.frame(text % number) for number in range(CALLS)))
                rates.append(CALLS / _exchange(sock, data))
        finally:
            sock.detach()
    return rates


def _exchange(sock: socket.socket, data: memoryview) -> float:
    """Seconds until everything is sent and answered."""
    sock.setblocking(False)
    selector = selectors.DefaultSelector()
    selector.register(sock, selectors.EVENT_READ | selectors.EVENT_WRITE)
    before, seen = time.perf_counter(), 0
    while seen < CALLS:
        for _, events in selector.select():
            if events & selectors.EVENT_READ:
                seen += sock.recv(1 << 18).count(b'"result"')
            if events & selectors.EVENT_WRITE:
                data = data[sock.send(data[: 1 << 16]) :]
                if not data:
                    selector.modify(sock, selectors.EVENT_READ)
    selector.close()
    sock.setblocking(True)
    return time.perf_counter() - before


def _fan_out(control: ControlClient, address: str, say: Say) -> list[Row]:
    say(f"control: {CLIENTS} clients")
    control.instance_create(instance="guest")
    _assemble(control, "guest")
    calm = _speed(control, lambda: None)
    alone = _speed(control, lambda: _one_event(control))
    clients = [ControlClient.connect(address) for _ in range(CLIENTS)]
    try:
        for client in clients:
            client.instance_subscribe(instance="guest", events=["DEVICE_DELETED"])
        delays: list[float] = []

        def event() -> None:
            _one_event(control)
            for client in clients:
                note = client.wait_event("DEVICE_DELETED")
            stamp = note["timestamp"]
            delays.append((time.time() - stamp["seconds"] - stamp["microseconds"] / 1e6) * 1e3)

        crowded = _speed(control, event)
    finally:
        for client in clients:
            client.close()
        control.instance_end(instance="guest")
    shares = [one / median(alone) for one in crowded]
    return [
        Row(f"event to the last of {CLIENTS} WebSockets", "ms", delays, [], "none", False),
        Row(f"guest's speed while {CLIENTS} get events, of that while nobody does", "", shares, [], "none", True),
        Row("the guest's speed alone", "MIPS", calm, [], "none", True),
    ]


def _one_event(control: ControlClient) -> None:
    for execute, arguments in (("device_add", {"driver": "irq-source", "id": "plug"}), ("device_del", {"id": "plug"})):
        control.instance_qmp(instance="guest", execute=execute, arguments=arguments)


def _speed(control: ControlClient, between: Callable[[], None]) -> list[float]:
    """Millions of instructions a second of the clock, in slices in each of which `between` is done every 50 ms."""
    question: dict[str, Any] = {"path": "/machine/peripheral/cpu", "property": "instructions"}
    speeds = []
    for _ in range(5):
        before = control.instance_qmp(instance="guest", execute="qom-get", arguments=question)
        begin = time.perf_counter()
        for _ in range(EVENTS // 5):
            between()
            time.sleep(0.05)
        after = control.instance_qmp(instance="guest", execute="qom-get", arguments=question)
        speeds.append((after - before) / (time.perf_counter() - begin) / 1e6)
    return speeds


def qemu_board(program: str, none: Subject) -> Subject:
    """QEMU with a RISC-V machine that waits."""
    options = ["-M", "virt", "-m", "128", "-bios", "none", "-S", "-nodefaults", "-display", "none", "-monitor", "none"]
    options += ["-serial", "none", "-qmp"]
    return Subject(f"{none.name} -M virt", lambda path: [program, *options, f"unix:{path},server=on,wait=off"])

