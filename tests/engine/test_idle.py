"""Guests that poll: what goes round for ever sleeps, and nothing else does."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from ratite.core.accel.base import Exit
from ratite.core.engine import idle
from ratite.core.engine.idle import Proof
from ratite.core.engine.idle_proof import Prover
from ratite.core.engine.native import NativeLibrary
from ratite.core.engine.vcpu import NativeVcpu
from ratite.core.isa.isa import Isa
from ratite.core.memory import BusError
from tests.engine.lockstep import CODE_LIMIT
from tests.engine.toy import ToyPort, ToyRam

BASE, FLAG, DEVICE = 0x1000, 0x3000, 0xF0000


class Polling:
    """A CPU whose r2 is the address of a flag, r3 what r1 is compared with, r5 a device's address (its low 32 bits)."""

    def __init__(self, library: NativeLibrary, big: bool, word: int) -> None:
        native = library.get(ToyPort.ISA, {"big": big, "word": word})
        self.isa: Isa = native.isa
        self.ram = ToyRam(0x4000)
        self.port = ToyPort(self.ram, big=big, word=word)
        self.cpu = NativeVcpu(native, self.port, BusError, CODE_LIMIT)

    def load(self, *insns: bytes) -> None:
        code = b"".join(insns)
        self.ram.map[: len(code)] = code
        self.cpu.reset(BASE)
        for number, value in (2, FLAG), (3, 7), (4, 9), (5, DEVICE):
            self.cpu.set("r", value, number)

    def write(self, addr: int, value: int) -> None:
        """As a device does."""
        data = value.to_bytes(4, "big" if self.isa.big_endian else "little")
        self.ram.map[addr - BASE : addr - BASE + 4] = data
        self.cpu.invalidate(self.ram, addr - BASE, 4)  # type: ignore[arg-type]

    def run(self) -> str:
        """Why the CPU came back, but for the end of a short stay behind a nap."""
        while (ended := self.cpu.run()).kind == Exit.BUDGET:
            pass
        return ended.kind

    def prove(self) -> Proof | None:
        cpu = self.cpu
        return Prover(self.isa, self.port.ram_ranges()).prove(cpu.get("pc"), cpu.get("ctx"), cpu._arrays, cpu.get("irq_lines"))

    def holds(self, proof: Proof) -> bool:
        return proof.holds(self.cpu._arrays, self.cpu.get("irq_lines"))


@pytest.fixture(params=[(False, 32), (True, 32), (False, 64)], ids=["le32", "be32", "le64"])
def polling(request: pytest.FixtureRequest, library: NativeLibrary) -> Iterator[Polling]:
    made = Polling(library, *request.param)
    yield made
    made.cpu.close()


def asm(made: Polling, name: str, **operands: int) -> bytes:
    return made.isa.assemble(name, **operands)


def poll_flag(made: Polling) -> tuple[bytes, ...]:
    """Until the flag is r3, with a scratch register in between."""
    return (
        asm(made, "lw", rs=2, rd=1, imm=0),
        asm(made, "add", rd=6, rs=1, rt=1),
        asm(made, "bne", rs=1, rt=3, imm=-6),
        asm(made, "sleep"),
    )


def test_a_polling_loop_sleeps_and_goes_on_when_the_flag_is_set(polling: Polling) -> None:
    polling.load(*poll_flag(polling))
    cpu = polling.cpu
    assert polling.run() == Exit.IDLE
    assert cpu.undisturbed()
    before = cpu.instructions
    assert polling.run() == Exit.IDLE, "it still polls"
    assert cpu.instructions - before < 100_000, "and that was found out soon"
    assert cpu.idle.proofs == 1, "by what was proved before"
    polling.write(FLAG, 7)
    assert polling.run() == Exit.HALT
    assert cpu.get("r", 1) == 7 and cpu.get("r", 6) == 14


def test_a_loop_that_leaves_memory_as_it_was_sleeps(polling: Polling) -> None:
    polling.load(
        asm(polling, "lw", rs=2, rd=1, imm=0),
        asm(polling, "sw", rs=2, rt=4, imm=0),
        asm(polling, "sync"),
        asm(polling, "sw", rs=2, rt=1, imm=0),
        asm(polling, "bne", rs=1, rt=3, imm=-14),
    )
    assert polling.run() == Exit.IDLE
    assert polling.ram.map[FLAG - BASE : FLAG - BASE + 4] in (bytes(4), (9).to_bytes(4, "little"), (9).to_bytes(4, "big"))


def test_a_guest_that_naps_most_of_the_time_dozes(polling: Polling, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between two naps; one that computes, or has much to do between its naps, doesn't."""
    now = [1000.0]
    monkeypatch.setattr(idle, "time", SimpleNamespace(monotonic=lambda: now[0]))
    watch = idle.IdleWatch(polling.isa, polling.cpu.idle._cpu)
    assert not watch.dozes(1_000), "too early to tell"
    now[0] += 1
    assert not watch.dozes(300_000_000)
    now[0] += 0.1
    assert not watch.dozes(300_000_000), "too early to tell anew"
    now[0] += 9.9
    assert watch.dozes(310_000_000)


def dozes(cpu: NativeVcpu) -> None:
    """As if its guest had had next to nothing to do for a while."""
    cpu.idle._pace, cpu.idle._paced = 1.0, (1e12, 0)


def test_only_behind_a_nap_a_guest_dozes(polling: Polling) -> None:
    polling.load(*poll_flag(polling))
    cpu = polling.cpu
    assert polling.run() == Exit.IDLE and not cpu.dozing, "it was busy before"
    dozes(cpu)
    assert not cpu.dozing
    assert polling.run() == Exit.IDLE and cpu.dozing
    cpu.set("r", 8, 3)
    assert cpu.run().kind == Exit.BUDGET and not cpu.dozing


def test_a_stay_behind_a_nap_that_is_not_short_is_told(polling: Polling) -> None:
    """Whoever waits for the CPU to come back soon learns that it doesn't."""
    polling.load(*poll_flag(polling))
    cpu = polling.cpu
    dozes(cpu)
    assert polling.run() == Exit.IDLE
    cpu.set("r", 8, 3)  # it reads this one, so that it goes on at first
    assert cpu.run().kind == Exit.BUDGET
    assert cpu.run().kind == Exit.IDLE, "told once"


def test_the_first_round_behind_a_tick_is_no_reason_for_a_proof(polling: Polling) -> None:
    """It finds in memory what the loop stores over in each round."""
    polling.load(
        asm(polling, "lw", rs=2, rd=1, imm=0),
        asm(polling, "lw", rs=2, rd=6, imm=4),
        asm(polling, "sw", rs=2, rt=4, imm=4),
        asm(polling, "bne", rs=1, rt=3, imm=-12),
    )
    cpu = polling.cpu
    assert polling.run() == Exit.IDLE and cpu.idle.proofs == 1
    dozes(cpu)
    polling.write(FLAG + 4, 5)
    cpu.set("pc", BASE)
    cpu.idle.left = 1
    assert polling.run() == Exit.IDLE and cpu.idle.proofs == 1


def test_a_line_ends_the_quiet(polling: Polling) -> None:
    polling.load(*poll_flag(polling))
    cpu = polling.cpu
    assert polling.run() == Exit.IDLE and cpu.undisturbed()
    cpu.set_line(3, True)
    assert not cpu.undisturbed()
    assert polling.run() == Exit.IDLE, "nobody takes interrupts here: it polls on"
    cpu.kick()
    assert not cpu.undisturbed()
    assert polling.run() == Exit.KICKED


def test_the_guest_goes_on_while_it_is_proved(polling: Polling, monkeypatch: pytest.MonkeyPatch) -> None:
    """A proof takes milliseconds, for which a guest that measures time would have stood still: here it comes to its end while
    the proof is still being made."""
    begun, may_end = threading.Event(), threading.Event()
    prove = Prover.prove

    def slow(*args: Any) -> Proof | None:
        begun.set()
        may_end.wait(60)
        return prove(*args)

    monkeypatch.setattr(Prover, "prove", slow)
    polling.load(*poll_flag(polling))
    cpu = polling.cpu
    outcome: list[Exit] = []
    thread = threading.Thread(target=lambda: outcome.append(cpu.run()))
    thread.start()
    assert begun.wait(60)
    polling.write(FLAG, 7)
    thread.join(60)
    assert outcome and outcome[0].kind == Exit.HALT and not may_end.is_set()
    may_end.set()


@pytest.mark.parametrize("traps", [0, 1])
def test_what_an_interrupt_restored_proves_nothing(polling: Polling, monkeypatch: pytest.MonkeyPatch, traps: int) -> None:
    """A CPU that computes comes by the same place with the same registers when a handler has returned there."""
    polling.load(*poll_flag(polling))
    cpu, watch, taken = polling.cpu, polling.cpu.idle, [0]
    monkeypatch.setattr(NativeVcpu, "traps", property(lambda _: taken[0]))
    for _ in range(2):
        watch.look()
        taken[0] += traps
    assert (watch._proving is None) == bool(traps)
    cpu.remap()


def test_the_end_of_a_proof_is_told(polling: Polling) -> None:
    """The CPU looks at once, not when its slice ends."""
    polling.load(*poll_flag(polling))
    watch = polling.cpu.idle
    for _ in range(2):
        watch.look()
    assert watch._proving is not None
    watch._proving.join(60)
    watch.left = 1 << 40
    assert polling.run() == Exit.IDLE


def test_what_was_proved_goes_with_the_view_of_memory(polling: Polling) -> None:
    """A proof holds host addresses, which may be nobody's afterwards."""
    polling.load(*poll_flag(polling))
    cpu = polling.cpu
    assert polling.run() == Exit.IDLE and cpu.idle.proofs == 1
    cpu.remap()
    assert polling.run() == Exit.IDLE and cpu.idle.proofs == 2


def test_a_proof_holds_at_all_places_of_the_loop(polling: Polling) -> None:
    """Wherever the CPU is looked at in it; there it depends on what the loop reads from there on."""
    polling.load(
        asm(polling, "lw", rs=2, rd=1, imm=0),
        asm(polling, "bne", rs=2, rt=3, imm=6),  # over the next one
        asm(polling, "sleep"),
        asm(polling, "add", rd=6, rs=1, rt=1),
        asm(polling, "bne", rs=1, rt=3, imm=-12),
        asm(polling, "sleep"),
    )
    cpu = polling.cpu
    prover = Prover(polling.isa, polling.port.ram_ranges())
    assert prover.prove(BASE, 0, cpu._arrays, 0) is not None
    proofs = prover.around()
    middle = BASE + 10
    assert set(proofs) == {(BASE + at, 0) for at in (0, 4, 10, 12)}
    assert polling.holds(proofs[BASE, 0]) and polling.holds(proofs[middle, 0])
    cpu.set("r", 5, 1)
    assert polling.holds(proofs[BASE, 0]) and not polling.holds(proofs[middle, 0]), "r1 is what was loaded"
    cpu.set("r", 0, 1)
    polling.write(FLAG, 1)
    assert not polling.holds(proofs[BASE, 0]) and not polling.holds(proofs[middle, 0])


def test_an_inner_loop_is_no_place_for_a_proof(polling: Polling) -> None:
    """What its next turn depends on isn't all that the whole round does."""
    polling.load(
        asm(polling, "lw", rs=2, rd=1, imm=0),
        asm(polling, "addi", rd=1, rs=1, imm=-1),
        asm(polling, "bne", rs=1, rt=7, imm=-4),
        asm(polling, "bne", rs=2, rt=3, imm=-12),
    )
    polling.write(FLAG, 3)
    cpu = polling.cpu
    prover = Prover(polling.isa, polling.port.ram_ranges())
    assert prover.prove(BASE, 0, cpu._arrays, 0) is not None
    assert set(prover.around()) == {(BASE, 0), (BASE + 12, 0)}


def test_an_interrupt_meanwhile_does_not_disturb_a_proof(polling: Polling, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its handler writes into the stack that the loop has read half of."""
    polling.load(
        asm(polling, "lw", rs=2, rd=1, imm=0),
        asm(polling, "lw", rs=2, rd=6, imm=4),
        asm(polling, "bne", rs=1, rt=3, imm=-8),
    )
    step = Prover.step

    def disturbed(prover: Prover) -> str:
        outcome = step(prover)
        polling.write(FLAG + 4, 5)
        return outcome

    monkeypatch.setattr(Prover, "step", disturbed)
    proof = polling.prove()
    assert proof is not None and not polling.holds(proof), "it is about memory as it was"
    polling.write(FLAG + 4, 0)
    assert polling.holds(proof)


def test_memory_may_be_of_another_moment_than_the_registers(polling: Polling) -> None:
    """The CPU runs on while its loop is proved: here it had not yet stored what the loop stores."""
    polling.load(
        asm(polling, "lw", rs=2, rd=1, imm=0),
        asm(polling, "sw", rs=2, rt=4, imm=4),
        asm(polling, "lw", rs=2, rd=6, imm=4),
        asm(polling, "bne", rs=1, rt=3, imm=-12),
    )
    proof = polling.prove()
    assert proof is not None and not polling.holds(proof)
    polling.write(FLAG + 4, 9)
    assert polling.holds(proof)
    other = polling.prove()
    assert other is not None and dict(other.memory) == dict(proof.memory)
    polling.cpu.set("r", 8, 4)
    assert not polling.holds(proof)


def test_memory_of_several_sizes_is_read_whole(polling: Polling) -> None:
    """Bytes at both ends are known before those between."""
    polling.load(
        asm(polling, "lb", rs=2, rd=1, imm=0),
        asm(polling, "lb", rs=2, rd=1, imm=3),
        asm(polling, "lw", rs=2, rd=1, imm=0),
        asm(polling, "bne", rs=1, rt=3, imm=-12),
    )
    assert polling.prove() is not None


def test_what_may_not_be_proved_yet_is_looked_at_soon_and_once(polling: Polling) -> None:
    """A proof that failed while the guest's slices were long was not tried again for as long."""
    polling.load(*poll_flag(polling))
    watch = polling.cpu.idle
    watch._not_before = 1e9
    watch._slice = 1 << 40
    assert not watch.look()
    assert watch._proving is None and not watch._looks
    assert 1 < watch.left <= 4_000_000
    watch._not_before = 0.0
    for _ in range(2):
        watch.look()
    assert watch._proving is not None
    polling.cpu.remap()


def test_what_a_proof_depends_on(polling: Polling) -> None:
    polling.load(*poll_flag(polling))
    cpu = polling.cpu
    proof = polling.prove()
    assert proof is not None and polling.holds(proof)
    cpu.set("r", 123, 6)
    assert polling.holds(proof), "the loop writes this register before it reads it"
    cpu.set("r", 5, 7)
    assert polling.holds(proof), "and knows nothing of this one"
    cpu.set("r", 8, 3)
    assert not polling.holds(proof), "it reads this one"
    cpu.set("r", 7, 3)
    polling.write(FLAG + 4, 1)
    assert polling.holds(proof)
    polling.write(FLAG, 1)
    assert not polling.holds(proof)
    polling.write(FLAG, 0)
    assert polling.holds(proof)
    cpu.set("irq_lines", 4)
    assert not polling.holds(proof), "its interrupt routine may say something else"
    cpu.set("irq_lines", 0)
    polling.ram.map[4:6] = asm(polling, "sleep")
    assert not polling.holds(proof), "its code changed"


@pytest.mark.parametrize("what", ["counter", "store", "device", "device-store", "reservation", "sleep", "trap", "long"])
def test_what_proves_nothing(polling: Polling, what: str) -> None:
    back = {
        "counter": asm(polling, "addi", rd=1, rs=1, imm=1),
        "store": b"".join((
            asm(polling, "lw", rs=2, rd=1, imm=0), asm(polling, "addi", rd=1, rs=1, imm=1),
            asm(polling, "sw", rs=2, rt=1, imm=0), asm(polling, "lw", rs=2, rd=1, imm=8))),
        "device": asm(polling, "lw", rs=5, rd=1, imm=0),
        "device-store": asm(polling, "sw", rs=5, rt=4, imm=0),
        "reservation": asm(polling, "ll", rd=1, rs=2),
        "sleep": asm(polling, "sleep"),
        "trap": asm(polling, "lw", rs=0, rd=1, imm=0),
        "long": asm(polling, "add", rd=1, rs=2, rt=2) * 300,
    }[what]
    polling.load(back, asm(polling, "bne", rs=2, rt=3, imm=-len(back)))
    polling.cpu.set("vector", BASE)
    assert polling.prove() is None
    assert not polling.port.log, "a device was asked"
    assert polling.ram.map[FLAG - BASE : FLAG - BASE + 4] == bytes(4), "memory was written"


def test_memory_that_another_cpu_runs_from_proves_nothing(polling: Polling) -> None:
    polling.load(*poll_flag(polling))
    assert polling.prove() is not None
    port = ToyPort(polling.ram, big=polling.isa.big_endian, word=polling.isa.word)
    other = NativeVcpu(polling.cpu.native, port, BusError, CODE_LIMIT)
    try:
        assert polling.prove() is None
    finally:
        other.close()
    assert polling.prove() is not None


def test_a_loop_that_polls_a_device_is_never_stopped(polling: Polling) -> None:
    """The device counts its reads, and the loop ends at 3,000: some thousand looks later."""
    polling.load(
        asm(polling, "lw", rs=5, rd=1, imm=0),
        asm(polling, "bne", rs=1, rt=3, imm=-4),
        asm(polling, "sleep"),
    )
    polling.cpu.set("r", 3000, 3)
    polling.cpu.idle.left = 1
    outcome: list[Exit] = []
    thread = threading.Thread(target=lambda: outcome.append(polling.cpu.run()))
    thread.start()
    thread.join(60)
    assert outcome and outcome[0].kind == Exit.HALT
    assert len(polling.port.log) == 3000
