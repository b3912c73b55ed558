"""The machines that demo, bench and tests assemble, each as the QMP commands of any client: (command, arguments) in order.

`machine-create` is the first, `x-exit-preconfig` is left to the caller: what it does to time and console is his.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from ratite.qapi import machinefile
from ratite.qapi.machinefile.expression import escaped

Command = tuple[str, dict[str, Any]]

MIB = 1 << 20


class Board(NamedTuple):
    """One CPU with RAM and a console, at the addresses that the guests of that name are built for."""

    target: str
    cpu: str
    ram: int
    uart: str
    uart_at: int
    uart_props: Mapping[str, Any]
    finisher: int | None
    clint: int | None
    intc: int | None
    timer: int | None
    timer_line: int
    endianness: str
    timer_hz: int = 62_000_000


def _riscv(target: str, cpu: str) -> Board:
    return Board(target, cpu, 0x80000000, "ns16550", 0x10000000, {}, 0x100000, 0x2000000, None, None, 0, "little")


def _microblaze(target: str, endianness: str) -> Board:
    return Board(target, "microblaze-cpu", 0, "ns16550", 0x10000000, {}, 0x100000, None, 0x41200000, 0x41C00000, 1, endianness)


def board(name: str) -> Board:
    """The board of that name: the last part of a guest's file name, "hello.rv64.elf".  KeyError."""
    if name == "rv64":
        return _riscv("riscv64", "rv64-riscv-cpu")
    if name == "rv32":
        return _riscv("riscv32", "rv32-riscv-cpu")
    if name == "mb":
        return _microblaze("microblaze", "big")
    if name == "mbel":
        return _microblaze("microblazeel", "little")
    if name == "s3adsp1800":
        return _microblaze("microblaze", "big")._replace(
            ram=0x90000000, uart="xlnx.xps-uartlite", uart_at=0x84000000, finisher=None, intc=0x81800000, timer=0x83C00000,
            timer_line=0,
        )  # fmt: skip
    if name == "ml605":
        return _microblaze("microblazeel", "little")._replace(
            ram=0x50000000, uart_at=0x83E01000, uart_props={"regshift": 2}, finisher=None, intc=0x81800000, timer=0x83C00000,
            timer_line=2, timer_hz=100_000_000,
        )  # fmt: skip
    raise KeyError(name)


def one_cpu(name: str, image: Path, chardev: str, *, prefix: str = "", accel: str = "") -> Iterable[Command]:
    """Board `name` with `image`, its console at `chardev`; all ids start with `prefix`, so that several fit into a machine."""
    this = board(name)
    p = prefix
    yield "object-add", {"qom-type": "address-space", "id": f"{p}view"}
    yield "object-add", {"qom-type": "memory-backend-ram", "id": f"{p}ram", "size": 16 * MIB if this.ram else 512 << 10}
    yield "map-region", {"space": f"{p}view", "region": f"{p}ram", "offset": this.ram}
    if this.ram and this.intc is not None:  # a MicroBlaze with block RAM at 0, where its vectors are
        yield "object-add", {"qom-type": "memory-backend-ram", "id": f"{p}bram", "size": 0x2000}
        yield "map-region", {"space": f"{p}view", "region": f"{p}bram", "offset": 0}
    cluster = {"qom-type": "cpu-cluster", "id": f"{p}cluster", "target": this.target, "address-space": f"{p}view"}
    yield "object-add", {**cluster, "accel": accel} if accel else cluster
    yield "device_add", {"driver": this.cpu, "id": f"{p}cpu", "cluster": f"{p}cluster", "image": str(image)}
    yield "device_add", {"driver": this.uart, "id": f"{p}uart", "chardev": chardev, **_uart_props(this)}
    yield "map-region", {"space": f"{p}view", "region": f"{p}uart", "offset": this.uart_at}
    if this.finisher is not None:
        yield "device_add", {"driver": "riscv.sifive.test", "id": f"{p}finisher"}
        yield "map-region", {"space": f"{p}view", "region": f"{p}finisher", "offset": this.finisher}


def _uart_props(this: Board) -> Mapping[str, Any]:
    if this.uart == "xlnx.xps-uartlite":
        return {"endianness": this.endianness}
    return this.uart_props


def with_timer(name: str, *, prefix: str = "") -> Iterable[Command]:
    """What board `name` has for timer interrupts: CLINT, or timer and interrupt controller."""
    this = board(name)
    p = prefix
    if this.clint is not None:
        yield "device_add", {"driver": "riscv.aclint.mtimer", "id": f"{p}mtimer"}
        yield "map-region", {"space": f"{p}view", "region": f"{p}mtimer", "offset": this.clint + 0x4000}
        yield "wire-irq", {"from": f"{p}mtimer", "output": "mtip[0]", "to": f"{p}cpu", "input": "mtip"}
        return
    order = {"endianness": this.endianness}
    yield "device_add", {"driver": "xlnx.xps-intc", "id": f"{p}intc", **order}
    yield "map-region", {"space": f"{p}view", "region": f"{p}intc", "offset": this.intc}
    yield "device_add", {"driver": "xlnx.xps-timer", "id": f"{p}timer", "clock-frequency": this.timer_hz, **order}
    yield "map-region", {"space": f"{p}view", "region": f"{p}timer", "offset": this.timer}
    yield "wire-irq", {"from": f"{p}timer", "output": "irq", "to": f"{p}intc", "input": f"irq[{this.timer_line}]"}
    yield "wire-irq", {"from": f"{p}intc", "output": "irq", "to": f"{p}cpu", "input": "irq"}


@cache
def _compiler() -> machinefile.Compiler:
    return machinefile.Compiler(machinefile.files.declarations())


def of_profile(name: str, parameters: Mapping[str, Any], *, prefix: str = "", chardev: str = "") -> Iterable[Command]:
    """The commands of a profile between `machine-create` and `x-exit-preconfig`, without backends: they are the caller's.

    All ids start with `prefix`; its consoles are at `chardev`, or at chardevs of the profile's ids.  What is left at an empty
    text isn't said.  MachineFileError.
    """
    values = {key: escaped(value) if isinstance(value, str) else value for key, value in parameters.items()}
    include = {"profile": name, "with": values, **({"prefix": prefix} if prefix else {})}
    text = json.dumps({"ratite": 1, "include": [include]})
    for command, arguments in _compiler().compile_text(text, {}, machinefile.files.read).commands[1:-1]:
        if command != "chardev-add":
            given = {key: value for key, value in arguments.items() if value != ""}
            yield command, {**given, "chardev": chardev} if chardev and "chardev" in given else given


def demo(rv_image: Path, mb_image: Path, shared: Path, chardev: str, *, accel: str = "") -> Iterable[Command]:
    """The profile duo/minimal: two CPUs of different word size and byte order, each with RAM of its own; shared RAM (1 MiB,
    file `shared`), a mailbox that interrupts either side, and one UART."""
    files = {"rv_image": str(rv_image), "mb_image": str(mb_image), "shared": str(shared)}
    yield "machine-create", {}
    yield from of_profile("duo/minimal@1", {**files, "accel": accel}, chardev=chardev)
