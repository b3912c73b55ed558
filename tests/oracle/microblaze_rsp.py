"""A QEMU for MicroBlaze behind its gdbstub: start, registers, memory, run to a breakpoint. Linux only."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import struct
import subprocess
import tempfile
import time
from collections.abc import Sequence

#: byte order -> (binary, machine, RAM address)
MACHINES = {
    "be": ("qemu-system-microblaze", "petalogix-s3adsp1800", 0x90000000),
    "le": ("qemu-system-microblazeel", "petalogix-ml605", 0x50000000),
}

PC, MSR, EAR, ESR, FSR, BTR = 32, 33, 34, 35, 36, 37


def missing(endian: str) -> str | None:
    """Why there is no judge for this byte order."""
    binary = MACHINES[endian][0]
    return None if shutil.which(binary) else f"{binary} is not installed"


class Qemu:
    """One stopped QEMU; ``options``: CPU properties as "name=value"."""

    def __init__(self, endian: str, options: Sequence[str] = ()) -> None:
        binary, machine, self.ram = MACHINES[endian]
        self.order = ">" if endian == "be" else "<"
        self._dir = tempfile.mkdtemp(prefix="mbq-")
        path = os.path.join(self._dir, "gdb")
        command = [binary, "-M", machine, "-S", "-display", "none", "-serial", "null", "-monitor", "none",
                   "-chardev", f"socket,id=g,path={path},server=on,wait=off", "-gdb", "chardev:g"]
        for option in options:
            command += ["-global", f"microblaze-cpu.{option}"]
        self.process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self._socket = socket.socket(socket.AF_UNIX)
        deadline = time.monotonic() + 60
        while True:
            try:
                self._socket.connect(path)
                break
            except OSError:
                if time.monotonic() > deadline or self.process.poll() is not None:
                    raise
                time.sleep(0.01)
        self._socket.settimeout(300)  # soaks run when nobody else wants the processor
        self._buffer = b""
        self.command("QStartNoAckMode")
        self.command("?")

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        self._socket.close()
        with contextlib.suppress(OSError):
            shutil.rmtree(self._dir)

    def __enter__(self) -> Qemu:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # -- packets
    def send(self, text: str) -> None:
        self._socket.sendall(f"${text}#{sum(text.encode()) & 0xFF:02x}".encode())

    def receive(self) -> str:
        """One packet's text; acknowledgements are skipped."""
        while True:
            start = self._buffer.find(b"$")
            end = self._buffer.find(b"#", start)
            if start >= 0 and end >= 0 and len(self._buffer) >= end + 3:
                text = self._buffer[start + 1:end]
                self._buffer = self._buffer[end + 3:]
                return text.decode()
            data = self._socket.recv(1 << 20)
            if not data:
                raise ConnectionError("QEMU has closed its gdbstub")
            self._buffer += data

    def command(self, text: str) -> str:
        self.send(text)
        if text == "QStartNoAckMode":
            answer = self.receive()
            self._socket.sendall(b"+")
            return answer
        return self.receive()

    # -- state
    def registers(self) -> list[int]:
        """All of the g packet as 32-bit words."""
        raw = bytes.fromhex(self.command("g").replace("x", "0"))
        return list(struct.unpack(f"{self.order}{len(raw) // 4}I", raw[:len(raw) & -4]))

    def set_registers(self, values: Sequence[int]) -> None:
        raw = struct.pack(f"{self.order}{len(values)}I", *values)
        assert self.command("G" + raw.hex()) == "OK"

    def read(self, addr: int, size: int) -> bytes:
        return bytes.fromhex(self.command(f"m{addr:x},{size:x}"))

    def write(self, addr: int, data: bytes) -> None:
        assert self.command(f"M{addr:x},{len(data):x}:{data.hex()}") == "OK"

    def step(self) -> str:
        return self.command("s")

    def run(self) -> str:
        """To the next breakpoint."""
        return self.command("c")

    def breakpoint(self, addr: int) -> None:
        assert self.command(f"Z0,{addr:x},4") == "OK"
