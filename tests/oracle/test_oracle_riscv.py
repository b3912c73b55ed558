"""The soaks in small, and that they can tell a difference."""

from __future__ import annotations

import json
import os
import random
import shutil
import struct
from functools import partial
from pathlib import Path
from types import ModuleType

import pytest

from ratite.core.accel.base import Exit
from ratite.core.engine.native import NativeLibrary
from tests.oracle import riscv_evaluator, riscv_mmu, riscv_qemu, riscv_qemu_modes, riscv_unicorn, riscv_unicorn_mmu
from tests.oracle.ledger import Chunk, Ledger, soak, totals
from tests.oracle.pair import paired


@pytest.fixture(scope="module")
def library() -> NativeLibrary:
    return NativeLibrary()


@pytest.mark.parametrize(("xlen", "without"), [(64, ""), (32, ""), (64, "cfd"), (32, "mac")])
def test_evaluator_and_tier0_agree(library: NativeLibrary, xlen: int, without: str) -> None:
    config = {"word-size": xlen, "f": True, "d": True, **dict.fromkeys(without, False)}
    pair = paired(config, riscv_evaluator.SPANS, library)
    done = riscv_evaluator.run_chunk(pair, 12345, 6000)
    pair.close()
    assert done.differences == []
    assert done.count >= 6000 and done.traps > 100


@pytest.mark.parametrize(("xlen", "without"), [(64, ""), (32, ""), (64, "svadu pmp svnapot svpbmt")])
def test_evaluator_and_tier0_agree_in_all_modes(library: NativeLibrary, xlen: int, without: str) -> None:
    pair, config = riscv_mmu.make(xlen, library, without)
    done = riscv_evaluator.run_chunk(pair, 12345, 6000, partial(riscv_mmu.MmuStream, config=config))
    pair.close()
    assert done.differences == []
    assert done.count >= 6000 and done.traps > 100


@pytest.mark.parametrize("xlen", [32, 64])
def test_the_evaluator_written_down_is_the_evaluator(library: NativeLibrary, xlen: int) -> None:
    """Without native code: the two side by side, state after each step, memory and counts at the end."""
    plain, config = riscv_mmu.make(xlen, library, plain=True)
    quick, _ = riscv_mmu.make(xlen, library)
    stream = riscv_mmu.MmuStream(plain, 77, config)
    for _ in range(12):
        image, place, state, lines = stream.image(), stream.code_address() & -2, stream.state(), stream.lines()
        for pair in (plain, quick):
            pair.fill(image)
            pair.start(place, state, lines)
        for _ in range(150):
            outcomes = [pair.left.cpu.step() for pair in (plain, quick)]
            assert outcomes[0] == outcomes[1] and plain.packed() == quick.packed(), hex(plain.left.cpu.pc_value)
            assert plain.left.cpu.trapped == quick.left.cpu.trapped
            if outcomes[0] == Exit.PANIC:
                break
        assert plain.rams[0].map[:] == quick.rams[0].map[:]
        assert plain.left.instructions == quick.left.instructions
    assert plain.left.instructions > 500 and plain.left.cpu.traps > 100
    for pair in (plain, quick):
        pair.close()


def test_single_steps_are_recorded_one_by_one(library: NativeLibrary) -> None:
    """A difference in the midst of a run of steps is found where it is."""
    pair = paired({"word-size": 64}, riscv_evaluator.SPANS, library)
    assemble = pair.isa.assemble
    pair.fill((assemble("addi", rd=1, rs1=1, imm=1) * 20 + assemble("wfi") * 2).ljust(riscv_evaluator.SIZE, b"\0"))
    pair.start(0x10000, {("x", 1): 5})
    assert pair.singles(1) == (1, Exit.BUDGET, "")  # the page is decoded
    assert pair.singles(60) == (20, Exit.HALT, "")
    assert pair.right.get("x", 1) == 25 and pair.right.instructions == 21
    pair.start(0x10000, {("x", 1): 5})
    pair.rams[0].map[4 * 6:4 * 7] = assemble("addi", rd=1, rs1=1, imm=2)
    done, _, text = pair.singles(60)
    pair.close()
    assert done == 7 and text == "step 7, from 0x10018: ra 0xd / 0xc"


@pytest.mark.parametrize(("xlen", "tier"), [(32, 1), (64, 2)])
def test_evaluator_and_regions_agree(library: NativeLibrary, xlen: int, tier: int) -> None:
    pair, config = riscv_mmu.make(xlen, library, tier=tier)
    done = riscv_evaluator.run_chunk(pair, 3, 3000, partial(riscv_mmu.MmuStream, config=config))
    pair.close()
    assert done.differences == []
    assert done.compiled > 500


@pytest.mark.parametrize("xlen", [32, 64])
@pytest.mark.parametrize("oracle", [riscv_unicorn, riscv_unicorn_mmu])
def test_tier0_and_unicorn_agree(library: NativeLibrary, oracle: ModuleType, xlen: int) -> None:
    judged = oracle.Judged(xlen, library)
    done = oracle.run_chunk(judged, 12345, 300_000)
    judged.close()
    assert done.differences == []
    assert done.count >= 300_000 and done.compiled == 0


@pytest.mark.parametrize(("oracle", "xlen", "tier"), [
    (riscv_unicorn, 64, 1), (riscv_unicorn, 32, 2), (riscv_unicorn_mmu, 64, 2), (riscv_unicorn_mmu, 32, 1)])
def test_regions_and_unicorn_agree(library: NativeLibrary, oracle: ModuleType, xlen: int, tier: int) -> None:
    judged = oracle.Judged(xlen, library, tier)
    done = oracle.run_chunk(judged, 3, 1)
    judged.close()
    assert done.differences == []
    assert done.compiled > done.count / 2


def test_a_difference_is_found(library: NativeLibrary) -> None:
    """One bit of one register is enough for either."""
    pair = paired({"word-size": 64}, riscv_evaluator.SPANS, library)
    pair.fill(bytes(riscv_evaluator.SIZE))
    pair.start(0x10000, {("mtvec", 0): 0x10000})
    assert pair.singles(1)[2] == ""
    pair.right.set("x", 1, 7)
    assert pair.differences("", "") == "t2 0x0 / 0x1"
    pair.rams[0].map[5] = 1
    assert "offset 0x5" in pair.memory_differs()
    pair.close()
    judged = riscv_unicorn.Judged(64, library)
    honest = judged.run

    def lying(program: bytes, end: int, rest: bytes) -> str:
        assert honest(program, end, rest) == ""
        judged.ram.map[judged.rows + 0x208] ^= 1
        return judged.differences()

    judged.run = lying  # type: ignore[method-assign]
    found = riscv_unicorn.run_chunk(judged, 1, 1000).differences
    judged.close()
    assert len(found) == 1 and "state 0: ra" in found[0]


def test_a_ledger_resumes_and_adds_up(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, seen = str(tmp_path / "soak.jsonl"), []

    def run(seed: int, count: int) -> Chunk:
        seen.append(seed)
        return Chunk(count, 1, ["no good"] if seed == 3 else [])

    assert soak(Ledger(path, "toy", "a"), 1, 20, run, 10) == 0
    assert soak(Ledger(path, "toy", "b"), 1, 10, run, 10) == 0
    assert soak(Ledger(path, "toy", "a"), 1, 20, run, 10) == 1
    assert seen == [1, 2, 1, 3, 4]
    ledger = Ledger(path, "toy", "a")
    assert (ledger.total("count"), ledger.total("differences"), ledger.seeds()) == (40, 1, {1, 2, 3, 4})
    assert len([json.loads(line) for line in Path(path).read_text().splitlines()]) == 5
    assert "| toy | a | 40 | 4 | 1 | 0 | 1–4 |" in totals(path)
    assert "ledger: 40 instructions" in capsys.readouterr().out


@pytest.mark.parametrize("xlen", [32, 64])
def test_tier0_and_qemu_agree(library: NativeLibrary, xlen: int) -> None:
    qemu = shutil.which(f"qemu-system-riscv{xlen}")
    if qemu is None:
        pytest.skip("needs qemu-system-riscv")
    assert riscv_qemu.Peers(xlen, library, qemu).compare(12345) == (riscv_qemu.VECTORS + 3 * riscv_qemu.PROBES, "")


def test_modes_and_a_recent_qemu_agree(library: NativeLibrary) -> None:
    qemu = os.environ.get("RATITE_RECENT_QEMU") or shutil.which("qemu-system-riscv64")
    if not qemu or not riscv_qemu_modes.knows(qemu):
        pytest.skip("needs qemu-system-riscv64 of version 10, in PATH or RATITE_RECENT_QEMU")
    peers = riscv_qemu_modes.Peers(library, qemu)
    assert peers.compare(12345) == (riscv_qemu_modes.PROBES, [])
    peers.close()


def test_probes_of_modes_end_and_reach_what_they_are_for(library: NativeLibrary) -> None:
    """Without the other: causes of all kinds come up."""
    peers = riscv_qemu_modes.Peers(library, "")
    writer = riscv_qemu_modes.ModeWriter(peers.isa, random.Random(12345))
    sent, size = peers.ours(writer.program()), 8 * len(riscv_qemu_modes.RESULTS)
    peers.close()
    assert len(sent) == size * riscv_qemu_modes.PROBES
    rows = [struct.unpack_from("<9Q", sent, size * k) for k in range(riscv_qemu_modes.PROBES)]
    causes = {row[0] for row in rows} | {row[4] for row in rows}
    assert {2, 3, 8, 9, 11, 12, 13, 15} <= causes and causes & {1, 5, 7}
    assert {cause & 15 for cause in causes if cause >> 63} <= {1, 5, 9}
    assert any(cause >> 63 for cause in causes)
