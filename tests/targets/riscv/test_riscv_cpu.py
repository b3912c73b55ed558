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
    assert (board.get("a0"), board.get("a1")) == (5, (xlen // 32) << xlen - 2 | 0x14112E)
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


MTIMER = 0x2000000


def test_time_is_mtime(board: Board) -> None:
    """Also after mtime was written, and in whatever order the machine is made."""
    m, call = board.machine, board.call
    call(m.create_object, "address-space", "mem", {})
    call(m.create_object, "memory-backend-ram", "ram", {"size": 0x4000})
    call(m.create_object, "cpu-cluster", "c", {"target": "riscv64", "address-space": "mem", "accel": board.accel})
    call(m.device_add, "riscv.aclint.mtimer", "mtimer", {})
    call(m.device_add, "rv64-riscv-cpu", "cpu", {"cluster": "c"})
    call(m.map_region, "mem", "ram", RAM)
    call(m.map_region, "mem", "mtimer", MTIMER)
    call(m.wire_irq, "mtimer", "mtip", "cpu", "mtip")
    call(m.exit_preconfig)
    a = isa_of(64).assemble
    both = a("csrrs", rd=10, csr=0xC01, rs1=0) + a("ld", rd=11, rs1=5, imm=-8) + a("csrrs", rd=12, csr=0xC01, rs1=0)
    board.program(a("lui", rd=5, upper=MTIMER + 0x8000) + both + a("lui", rd=6, upper=0x12345000) +
                  a("sd", rs1=5, rs2=6, imm=-8) + both.replace(both[:4], a("csrrs", rd=13, csr=0xC01, rs1=0)) + a("wfi"))
    board.run()
    get = board.get
    assert get("a0") <= 10 * 1_000_000_000  # it started with the machine
    assert 0x12345000 <= get("a3") <= get("a1") <= get("a2") < 0x12345000 + 10 * 1_000_000_000


@pytest.mark.parametrize("xlen", [32, 64])
def test_a_hart_and_its_timer_have_one_frequency(board: Board, xlen: int) -> None:
    m, call = board.machine, board.call
    call(m.create_object, "address-space", "mem", {})
    call(m.create_object, "cpu-cluster", "c", {"target": f"riscv{xlen}", "address-space": "mem", "accel": board.accel})
    call(m.device_add, f"rv{xlen}-riscv-cpu", "cpu", {"cluster": "c", "timebase-frequency": 1000})
    call(m.device_add, "riscv.aclint.mtimer", "mtimer", {})
    call(m.wire_irq, "mtimer", "mtip", "cpu", "mtip")
    with pytest.raises(QmpError, match=r"is 10000000 Hz, that of the hart .* is 1000 Hz: they must be equal"):
        call(m.exit_preconfig)


def test_stimecmp_wakes_the_hart(board: Board) -> None:
    """Sstc: the line rises when time reaches stimecmp, and falls when that is moved on."""
    board.build(64)
    a = isa_of(64).assemble
    # menvcfg.STCE; mie.STIE; stimecmp = time + 20000 (2 ms); sleep; then look at mip and time, and move stimecmp on
    code = (a("addi", rd=5, rs1=0, imm=-1) + a("slli", rd=5, rs1=5, shamt=63) + a("csrrw", rd=0, csr=0x30A, rs1=5)
            + a("addi", rd=6, rs1=0, imm=32) + a("csrrw", rd=0, csr=0x304, rs1=6)
            + a("csrrs", rd=10, csr=0xC01, rs1=0) + a("lui", rd=7, upper=0x5000) + a("add", rd=7, rs1=7, rs2=10)
            + a("csrrs", rd=14, csr=0x344, rs1=0) + a("csrrw", rd=0, csr=0x14D, rs1=7) + a("wfi")
            + a("csrrs", rd=11, csr=0x344, rs1=0) + a("csrrs", rd=12, csr=0xC01, rs1=0)
            + a("csrrw", rd=0, csr=0x14D, rs1=5) + a("csrrs", rd=13, csr=0x344, rs1=0) + a("wfi"))
    board.program(code)
    board.call(board.machine.cont)
    cpu, deadline = board.at("cpu"), time.monotonic() + 20
    while cpu.thread.state != "halted" or cpu.vcpu.instructions < len(code) // 4:
        assert time.monotonic() < deadline, cpu.thread.state
        time.sleep(0.001)
    board.call(board.machine.stop)
    assert board.get("a4") == 0  # stimecmp is all ones out of reset
    assert board.get("a1") & 0x20 and not board.get("a3") & 0x20
    assert board.get("a2") >= board.get("t2") == board.get("a0") + 0x5000


def test_extensions_that_need_others(board: Board) -> None:
    m, call = board.machine, board.call
    call(m.create_object, "address-space", "mem", {})
    call(m.create_object, "cpu-cluster", "c", {"target": "riscv64", "address-space": "mem", "accel": board.accel})
    call(m.device_add, "rv64-riscv-cpu", "cpu", {"cluster": "c", "u": False})
    with pytest.raises(QmpError, match="extension 's' needs 'u'"):
        call(m.exit_preconfig)
