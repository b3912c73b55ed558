"""The CPU types in a machine, on both accelerators: word size, hart number, extensions, lines."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from ratite.core.machine import Machine
from ratite.core.objects.registry import TypeRegistry
from ratite.qapi.errors import QmpError
from tests.targets.riscv.riscv_kit import isa_of

RAM = 0x80000000


class Board:
    """A cluster of one hart and 16 KiB of RAM."""

    def __init__(self, accel: str) -> None:
        self.machine = Machine(TypeRegistry(plugins=False), "test", autostart=False)
        self.accel = accel

    def call(self, method: Callable[..., Any], *args: Any) -> Any:
        return self.machine.owner.post(method, *args).result(30)

    def at(self, name: str) -> Any:
        """The object of that name."""
        return self.machine.resolve(name)

    def build(self, xlen: int, **properties: object) -> None:
        m, call = self.machine, self.call
        call(m.create_object, "address-space", "mem", {})
        call(m.create_object, "memory-backend-ram", "ram", {"size": 0x4000})
        call(m.create_object, "cpu-cluster", "c", {"target": f"riscv{xlen}", "address-space": "mem", "accel": self.accel})
        call(m.device_add, f"rv{xlen}-riscv-cpu", "cpu", {"cluster": "c", **properties})
        call(m.map_region, "mem", "ram", RAM)
        call(m.exit_preconfig)

    def program(self, code: bytes, at: int = RAM) -> None:
        self.call(self.at("mem").write, at, code)

    def run(self) -> None:
        """Until the hart sleeps; then stopped."""
        self.call(self.machine.cont)
        cpu, deadline = self.at("cpu"), time.monotonic() + 20
        while cpu.thread.state != "halted":
            assert time.monotonic() < deadline, cpu.thread.state
            time.sleep(0.001)
        self.call(self.machine.stop)

    def get(self, name: str) -> int:
        value: int = self.call(self.at("cpu").get_property, name)
        return value


@pytest.fixture(params=["interp", "jit"])
def board(request: pytest.FixtureRequest) -> Iterator[Board]:
    reason = TypeRegistry(plugins=False).accelerator(request.param).probe()
    if reason:
        pytest.skip(f"{request.param}: {reason}")
    made = Board(request.param)
    yield made
    made.machine.close()


@pytest.mark.parametrize("xlen", [32, 64])
def test_a_hart_knows_its_number_and_its_extensions(board: Board, xlen: int) -> None:
    board.build(xlen, hartid=5, a=False)
    a = isa_of(xlen).assemble
    board.program(a("csrrs", rd=10, csr=0xF14, rs1=0) + a("csrrs", rd=11, csr=0x301, rs1=0) + a("wfi"))
    board.run()
    assert (board.get("a0"), board.get("a1")) == (5, (xlen // 32) << xlen - 2 | 0x141104)
    assert board.get("pc") == RAM + 12


def test_what_is_left_out_is_illegal(board: Board) -> None:
    board.build(64, c=False, m=False)
    a = isa_of(64).assemble
    code = a("auipc", rd=5, upper=0) + a("addi", rd=5, rs1=5, imm=0x40) + a("csrrw", rd=0, csr=0x305, rs1=5)
    board.program(code + a("mul", rd=10, rs1=10, rs2=10))
    board.program(a("wfi"), RAM + 0x40)
    board.run()
    assert (board.get("mcause"), board.get("mepc"), board.get("pc")) == (2, RAM + 12, RAM + 0x44)


def test_a_line_wakes_the_hart_and_traps(board: Board) -> None:
    board.build(64)
    a = isa_of(64).assemble
    code = a("auipc", rd=5, upper=0) + a("addi", rd=5, rs1=5, imm=0x40) + a("csrrw", rd=0, csr=0x305, rs1=5) + \
        a("csrrwi", rd=0, csr=0x300, zimm=8) + a("addi", rd=6, rs1=0, imm=0x80) + a("csrrw", rd=0, csr=0x304, rs1=6) + a("wfi")
    board.program(code + a("addi", rd=10, rs1=0, imm=1))
    board.program(a("csrrs", rd=11, csr=0x344, rs1=0) + a("csrrw", rd=0, csr=0x304, rs1=0) + a("wfi"), RAM + 0x40)
    board.run()
    assert board.get("pc") == RAM + len(code)

    def raise_line() -> None:
        with board.machine.lock:
            board.at("cpu").input_handler("mtip", 0)(1)

    board.call(raise_line)
    board.run()
    assert board.get("mcause") == 1 << 63 | 7
    assert (board.get("mepc"), board.get("a1"), board.get("a0")) == (RAM + len(code), 0x80, 0)


@pytest.mark.parametrize(("target", "cpu"), [("riscv32", "rv64-riscv-cpu"), ("riscv64", "rv32-riscv-cpu")])
def test_a_cpu_is_of_its_target(target: str, cpu: str) -> None:
    board = Board("interp")
    board.call(board.machine.create_object, "address-space", "mem", {})
    board.call(board.machine.create_object, "cpu-cluster", "c", {"target": target, "address-space": "mem"})
    board.call(board.machine.device_add, cpu, "cpu", {"cluster": "c"})
    with pytest.raises(QmpError, match="is not of target"):
        board.call(board.machine.exit_preconfig)
    board.machine.close()
