"""The same hot plug, by the same register accesses, on QEMU: slot registers, errors and query-pci must be the same."""

from __future__ import annotations

import json
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

import pytest
from pci_kit import ECAM, Pci

from ratite.daemon.hmp.pci import text
from ratite.qapi.errors import GenericError

QEMU = "qemu-system-riscv64"
pytestmark = [
    pytest.mark.peer,
    pytest.mark.skipif(shutil.which(QEMU) is None, reason=f"needs {QEMU}"),
]
PATIENCE = 60.0
WFI = bytes.fromhex("73005010 6ff0dfff")  # wfi; j .-4
PORTS = (
    ("rp0", {"chassis": 1, "slot": 1, "addr": "1"}),
    ("rp1", {"chassis": 1, "slot": 2, "addr": "2"}),
    ("rp2", {"chassis": 1, "slot": 3, "addr": "3", "hotplug": False}),
)
COLD = (("cold", "rp1"), ("fixed", "rp2"))


class Subject(Protocol):
    """What both sides can do."""

    def cr(self, bdf: int, offset: int, size: int = 4) -> int: ...
    def cw(self, bdf: int, offset: int, value: int, size: int = 4) -> None: ...
    def add(self, **arguments: Any) -> str: ...
    def delete(self, id: str) -> str: ...
    def deleted(self, count: int) -> list[str]: ...
    def query_pci(self) -> Any: ...
    def reset(self) -> None: ...


class Ours(Pci):
    """ratite."""

    def __init__(self) -> None:
        devices: list[tuple[str, str, dict[str, Any]]] = [("pcie-root-port", id, props) for id, props in PORTS]
        devices += [("virtio-rng-pci", id, {"bus": bus}) for id, bus in COLD]
        super().__init__(*devices)

    def _do(self, what: Callable[..., Any], *args: Any) -> str:
        try:
            what(*args)
        except GenericError as exc:
            return str(exc.desc)
        return ""

    def add(self, **arguments: Any) -> str:
        props = {"driver": "virtio-rng-pci", **arguments}
        return self._do(self.machine.device_add, props.pop("driver"), props.pop("id"), props)

    def delete(self, id: str) -> str:
        return self._do(self.machine.device_del, id)

    def deleted(self, count: int) -> list[str]:
        found = [device for name, device in self.events if name == "DEVICE_DELETED"]
        self.events.clear()
        return sorted(found)

    def query_pci(self) -> Any:
        return self.host.describe_buses()

    def reset(self) -> None:
        self.machine.reset()


class Theirs:
    """QEMU with a guest that sleeps; registers by its qtest socket."""

    def __init__(self, place: Path) -> None:
        (place / "wfi").write_bytes(WFI)
        self.pairs = {name: socket.socketpair() for name in ("qmp", "qtest")}
        command = [QEMU, "-M", "virt", "-bios", str(place / "wfi"), "-display", "none", "-nodefaults"]
        for name, (_, theirs) in self.pairs.items():
            command += ["-chardev", f"socket,id={name}-socket,fd={theirs.fileno()}"]
        command += ["-mon", "chardev=qmp-socket,mode=control", "-object", "qtest,id=qt,chardev=qtest-socket,log=none"]
        for id, props in PORTS:
            options = "".join(f",{k}={'off' if v is False else v}" for k, v in props.items())
            command += ["-device", f"pcie-root-port,id={id}{options}"]
        for id, bus in COLD:
            command += ["-device", f"virtio-rng-pci,id={id},bus={bus}"]
        fds = [theirs.fileno() for _, theirs in self.pairs.values()]
        self.process = subprocess.Popen(command, pass_fds=fds)
        for ours, theirs in self.pairs.values():
            theirs.close()
            # An answer that doesn't come is a failure, not a hang.
            ours.settimeout(PATIENCE)
        self.files = {name: ours.makefile("rw") for name, (ours, _) in self.pairs.items()}
        self.gone: list[str] = []
        self.qmp(None)
        self.qmp("qmp_capabilities")

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        for name, (ours, _) in self.pairs.items():
            self.files[name].close()
            ours.close()

    def qmp(self, command: str | None, **arguments: Any) -> Any:
        file = self.files["qmp"]
        if command is not None:
            file.write(json.dumps({"execute": command, "arguments": arguments}) + "\n")
            file.flush()
        while "event" in (answer := self.message()):
            pass
        return answer

    def message(self) -> Any:
        """The next that comes."""
        answer = json.loads(self.files["qmp"].readline())
        if answer.get("event") == "DEVICE_DELETED" and "device" in answer["data"]:
            self.gone.append(answer["data"]["device"])
        return answer

    def qtest(self, line: str) -> list[str]:
        file = self.files["qtest"]
        file.write(line + "\n")
        file.flush()
        while True:
            answer: list[str] = file.readline().split()
            if answer[0] != "IRQ":
                return answer

    def cr(self, bdf: int, offset: int, size: int = 4) -> int:
        word = int(self.qtest(f"readl {ECAM + (bdf << 12) + (offset & ~3):#x}")[1], 16)
        return word >> 8 * (offset & 3) & (1 << 8 * size) - 1

    def cw(self, bdf: int, offset: int, value: int, size: int = 4) -> None:
        self.qtest(f"write{ {1: 'b', 2: 'w', 4: 'l'}[size]} {ECAM + (bdf << 12) + offset:#x} {value:#x}")

    def add(self, **arguments: Any) -> str:
        answer = self.qmp("device_add", **{"driver": "virtio-rng-pci", **arguments})
        return str(answer.get("error", {}).get("desc", ""))

    def delete(self, id: str) -> str:
        return str(self.qmp("device_del", id=id).get("error", {}).get("desc", ""))

    def deleted(self, count: int) -> list[str]:
        # Asking all the time would keep QEMU from getting round to it.
        while len(self.gone) < count:
            self.message()
        found, self.gone = self.gone, []
        return sorted(found)

    def query_pci(self) -> Any:
        return self.qmp("query-pci")["return"]

    def reset(self) -> None:
        self.qmp("system_reset")
        deadline = time.monotonic() + PATIENCE
        while self.cr(8, 0x18):
            assert time.monotonic() < deadline, "the reset doesn't come"


@pytest.fixture
def both(tmp_path: Path) -> Iterator[tuple[Ours, Theirs]]:
    ours, theirs = Ours(), Theirs(tmp_path)
    yield ours, theirs
    ours.close()
    theirs.close()


def capability(subject: Subject, bdf: int, id: int) -> int:
    at = subject.cr(bdf, 0x34, 1)
    while at and subject.cr(bdf, at, 1) != id:
        at = subject.cr(bdf, at + 1, 1)
    return at


class Trace:
    """Does steps and notes what is seen after each."""

    def __init__(self, subject: Subject) -> None:
        self.subject = subject
        self.at = {port: capability(subject, port, 0x10) for port in (8, 16, 24)}
        self.seen: list[Any] = []

    def number(self) -> None:
        for n, port in enumerate(self.at):
            self.subject.cw(port, 0x18, (n + 1) * 0x10100)
            self.subject.cw(port, 4, 7, 2)

    def look(self, what: str) -> None:
        values = []
        for n, (port, at) in enumerate(self.at.items()):
            slot = [self.subject.cr(port, at + offset, 2) for offset in (0x18, 0x1A, 0x12)]
            values.append((*(hex(each) for each in slot), hex(self.subject.cr((n + 1) << 8, 0))))
        self.seen.append((what, values))

    def control(self, value: int) -> None:
        self.subject.cw(8, self.at[8] + 0x18, value, 2)
        self.look(f"control {value:#x}")

    def clear(self) -> None:
        # Exactly what is set: QEMU takes a write of more for an accident and clears nothing.
        at = self.at[8] + 0x1A
        self.subject.cw(8, at, self.subject.cr(8, at, 2) & 0x1F, 2)
        self.look("clear")

    def add(self, **arguments: Any) -> None:
        self.seen.append((arguments, self.subject.add(**arguments)))
        self.look("add")

    def delete(self, id: str, gone: int = 0) -> None:
        self.seen.append((id, self.subject.delete(id)))
        self.deleted(gone)
        self.look("delete")

    def deleted(self, count: int) -> None:
        self.seen.append(("deleted", self.subject.deleted(count)))


def hot_plug(trace: Trace) -> None:
    trace.look("start")
    trace.number()
    trace.look("numbered")
    trace.add(id="n0", bus="pcie.0")
    trace.add(id="n1", bus="nope")
    trace.add(id="n2", bus="cold")
    trace.add(id="n3", bus="rp2", addr="0.1")
    trace.add(id="n4", bus="rp1", addr="0.1")
    trace.add(id="n5", bus="rp1", addr="0.0")
    trace.add(id="n6", bus="rp0", addr="zz")
    trace.delete("fixed")
    trace.delete("rp0")
    trace.add(id="x", bus="rp0")
    trace.delete("x", 1)
    trace.add(id="x", bus="rp0")
    trace.add(id="x", bus="rp0")
    trace.clear()
    trace.control(0x3C0)
    trace.control(0x1C0)
    trace.clear()
    trace.delete("x")
    trace.delete("x")
    trace.clear()
    trace.control(0x2C0)
    trace.control(0x6C0)
    trace.control(0x7C0)
    trace.deleted(1)
    trace.add(id="y", bus="rp0")
    trace.control(0x1E9)
    trace.subject.reset()
    trace.number()
    trace.look("reset")
    trace.control(0x7C0)
    trace.deleted(1)


def test_hot_plug_as_qemu(both: tuple[Ours, Theirs]) -> None:
    traces = [Trace(subject) for subject in both]
    for trace in traces:
        hot_plug(trace)
    ours, theirs = (trace.seen for trace in traces)
    for one, other in zip(ours, theirs, strict=True):
        assert one == as_later(other)


def as_later(row: Any) -> Any:
    """What a peer before 9.1 says of a port without hot plug, as later ones say it."""
    if not isinstance(row, tuple) or not isinstance(row[-1], str):
        return row
    old = r"^Hot-(?:un)?plug failed: unsupported by the port device '(.*)'$"
    text = re.sub(old, r"Bus '\1' does not support hotplugging", row[-1])
    return (*row[:-1], text)


def shape(value: Any) -> Any:
    """Types and names, and the values that the machine's make-up decides."""
    if isinstance(value, dict):
        return {key: shape(each) for key, each in sorted(value.items())}
    return [shape(each) for each in value] if isinstance(value, list) else value


def test_query_pci_as_qemu(both: tuple[Ours, Theirs]) -> None:
    for subject in both:
        Trace(subject).number()
    ours, theirs = (shape(subject.query_pci()) for subject in both)

    def order(info: dict[str, Any]) -> Any:
        return info["bus"], info["slot"], info["function"]

    for info in ours[0]["devices"], theirs[0]["devices"]:
        info.sort(key=order)
    assert ours == theirs


def test_info_pci_as_qemu(both: tuple[Ours, Theirs]) -> None:
    ours, theirs = both
    for subject in both:
        Trace(subject).number()
    wanted = theirs.qmp("human-monitor-command", **{"command-line": "info pci"})["return"].replace("\r\n", "\n")
    assert text(ours.query_pci()) == wanted
