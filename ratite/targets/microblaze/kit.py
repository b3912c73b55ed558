"""What the groups of MicroBlaze instructions share: registers, immediates, and how an instruction ends in its context.

Contexts: "" the normal one; "imm": behind an ``imm`` prefix; "ds": in the delay slot of a branch; "rds": in the delay
slot of rtid, rtbd, rted or a user vector, behind which the machine status changes (UG984, "Delay Slots", "rtid"); with
stream links "held": no interrupt is taken before this instruction.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from ratite.core.isa.emitter import Emitter
from ratite.core.isa.isa import Isa, Predicate, Semantics
from ratite.core.isa.operands import Operands
from ratite.core.isa.pattern import Field
from ratite.core.isa.value import V
from ratite.targets.microblaze.config import Config

IMM, DS, RDS, HELD = "imm", "ds", "rds", "held"
SLOTS = (DS, RDS)

#: machine status register, UG984 table "Machine Status Register"
MSR_IE, MSR_C, MSR_BIP, MSR_FSL, MSR_ICE, MSR_DZO = 0x2, 0x4, 0x8, 0x10, 0x20, 0x40
MSR_DCE, MSR_EE, MSR_EIP, MSR_PVR, MSR_CC = 0x80, 0x100, 0x200, 0x400, 0x80000000
MSR_UM, MSR_UMS, MSR_VM, MSR_VMS = 0x800, 0x1000, 0x2000, 0x4000
MSR_WRITABLE = MSR_IE | MSR_C | MSR_BIP | MSR_FSL | MSR_ICE | MSR_DZO | MSR_DCE | MSR_EE | MSR_EIP

#: exception causes, UG984 table "Exception Status Register"; ESR_DS: in a delay slot
EC_STREAM, EC_UNALIGNED, EC_ILLEGAL, EC_IBUS, EC_DBUS, EC_DIVIDE, EC_STACK, EC_PRIVILEGED = 0, 1, 2, 3, 4, 5, 7, 7
EC_DATA_STORAGE, EC_FETCH_STORAGE, EC_DATA_MISS, EC_FETCH_MISS = 16, 17, 18, 19
ESR_DS, ESR_W, ESR_S, ESR_DEC, ESR_RX, ESR_DIZ = 1 << 12, 1 << 11, 1 << 10, 1 << 11, 5, 1 << 11

LINK_INTERRUPT, LINK_BREAK, LINK_EXCEPTION = 14, 16, 17


def _special(number: int) -> str:
    return SPECIAL.get(number, f"{number:#x}")


#: special purpose registers by number, UG984 "mfs"
SPECIAL = MappingProxyType({
    0x0: "rpc", 0x1: "rmsr", 0x3: "rear", 0x5: "resr", 0x7: "rfsr", 0xB: "rbtr", 0xD: "redr", 0x800: "rslr",
    0x802: "rshr", 0x1000: "rpid", 0x1001: "rzpr", 0x1002: "rtlbx", 0x1003: "rtlblo", 0x1004: "rtlbhi", 0x1005: "rtlbsx",
    **{0x2000 + n: f"rpvr{n}" for n in range(13)},
})

FIELDS = MappingProxyType({
    "rd": Field("a", 5, file="r", dest=True),
    "rs": Field("a", 5, file="r"),  # the same bits where they name a source
    "ra": Field("b", 5, file="r"),
    "rb": Field("c", 5, file="r"),
    "imm": Field("imm", 16, signed=True),
    "amount": Field("imm", 5, operand="imm"),
    "bits": Field("imm", 15, operand="imm"),
    "number": Field("imm", 14, operand="imm", show=_special),
    "width": Field("c", 5),
    "link": Field("c", 4, show=lambda n: f"rfsl{n}"),
    "flags": Field("d", 5),
    "kind": Field("imm", 5, operand="imm"),
})


class Kit:
    """Declares instructions of ``isa`` in configuration ``c``."""

    def __init__(self, isa: Isa, c: Config) -> None:
        self.isa = isa
        self.c = c

    # -- declaring
    def op(
        self, name: str, pattern: str, asm: str, *, where: Predicate | None = None,
    ) -> Callable[[Semantics], Semantics]:
        """An instruction that goes on behind itself, wherever it stands."""

        def declare(semantics: Semantics) -> Semantics:
            def whole(e: Emitter, i: Operands) -> None:
                semantics(e, i)
                self.finish(e)

            self._declare(name, pattern, asm, whole, where=where)
            return semantics

        return declare

    def control(
        self, name: str, pattern: str, asm: str, *, relative: str = "", slots: bool = False,
        moves: Mapping[str, int] = MappingProxyType({}),
    ) -> Callable[[Semantics], Semantics]:
        """An instruction that says itself how it ends. Without ``slots`` it must not stand in a delay slot (UG984, "Delay
        Slots") and does nothing there, as the judge's does."""

        def declare(semantics: Semantics) -> Semantics:
            def whole(e: Emitter, i: Operands) -> None:
                if e.ctx in SLOTS and not slots:
                    self.finish(e)
                else:
                    semantics(e, i)

            self._declare(name, pattern, asm, whole, relative=relative, moves=moves)
            return semantics

        return declare

    def _declare(
        self, name: str, pattern: str, asm: str, semantics: Semantics, *, where: Predicate | None = None,
        relative: str = "", moves: Mapping[str, int] = MappingProxyType({}),
    ) -> None:
        def touched(e: Emitter, i: Operands) -> None:
            for operand in operands:  # read on every path, else what one path reads isn't there on another
                getattr(i, operand)
            semantics(e, i)

        self.isa.insn(name, pattern, asm, where=where, relative=relative, moves=moves)(touched)
        operands = (*self.isa.by_name[name].operands, *moves)

    # -- ending
    def finish(self, e: Emitter, *, poll: bool = False) -> None:
        """On behind the instruction; ``poll``: an interrupt may have become deliverable."""
        if e.ctx == DS:
            e.jump(e.get("btarget"), poll=poll)
        elif e.ctx == RDS:
            clear, msr = e.get("rclear"), e.get("msr")
            kept = msr & ~clear
            if self.c.use_mmu:  # a return takes the saved mode; a user vector, which sets it, has it in rset
                kept = kept | e.select((clear & MSR_UMS).eq(0), (msr >> 1) & (MSR_UM | MSR_VM), 0)
            self.set_msr(e, kept | e.get("rset"))
            e.set("esr", e.select((clear & MSR_EIP).ne(0), 0, e.get("esr")))
            e.set("nmbreak", e.get("nmbreak") & ~clear.bit(3))
            e.jump(e.get("btarget"), poll=True)
        elif poll:
            e.poll()
        elif e.ctx:
            e.next()

    def end(self, e: Emitter) -> None:
        """As ``finish``, as an explicit end in the normal context too."""
        if e.ctx:
            self.finish(e)
        else:
            e.next()

    # -- modes
    @property
    def writable(self) -> int:
        """Bits of MSR that software sets."""
        return MSR_WRITABLE | (MSR_UM | MSR_UMS if self.c.use_mmu else 0) | (MSR_VM | MSR_VMS if self.translated else 0)

    @property
    def translated(self) -> bool:
        """Whether there is a virtual mode."""
        return self.c.use_mmu > 1

    def set_msr(self, e: Emitter, msr: V) -> None:
        """Sets MSR where user or virtual mode may change."""
        e.set("msr", msr)
        if self.translated:
            e.modes_changed()

    def privileged_msr(self, msr: V) -> V:
        """``msr`` with user and virtual mode saved and left, as traps do it."""
        if not self.c.use_mmu:
            return msr
        modes = MSR_UM | MSR_VM
        return (msr & ~(modes | MSR_UMS | MSR_VMS)) | ((msr & modes) << 1)

    def privileged(self, e: Emitter, when: V | None = None) -> None:
        """Raises the privileged instruction exception in user mode, where ``when`` (all unless told). MSR[EE] does not mask
        it: nothing else could come of the instruction."""
        if self.c.use_mmu:
            user = e.get("msr").bit(11)
            e.if_(user if when is None else user & when, lambda: e.routine("exception", EC_PRIVILEGED))

    def mmu_fault(self, e: Emitter, kind: V, addr: V) -> None:
        """Ends in the MMU's exception if ``kind`` is one: it is the ESR then."""
        if self.translated:
            e.if_(kind.uge(EC_DATA_STORAGE), lambda: e.routine("storage", kind, addr))

    def slot_of(self, e: Emitter) -> None:
        """Notes how far behind its branch, or that one's prefix, the delay slot is, for an MMU exception there."""
        if self.translated:
            e.set("behind", 8 if e.ctx == IMM else 4)

    # -- values
    @staticmethod
    def imm(e: Emitter, i: Operands) -> V:
        """The 32-bit immediate, with the prefix's half where there is one (UG984, "imm")."""
        return e.get("immhi") | (i.imm & 0xFFFF) if e.ctx == IMM else i.imm

    @staticmethod
    def ra(e: Emitter, i: Operands) -> V:
        return e.reg("r", i.ra)

    @staticmethod
    def rb(e: Emitter, i: Operands) -> V:
        return e.reg("r", i.rb)

    @staticmethod
    def set_rd(e: Emitter, i: Operands, value: V) -> None:
        e.set_reg("r", i.rd, value)

    @staticmethod
    def carry(e: Emitter) -> V:
        """MSR[C] as 0 or 1, 32 bits."""
        return (e.get("msr") >> 2) & 1

    @staticmethod
    def set_carry(e: Emitter, carry: V) -> None:
        """Sets MSR[C]; ``carry``: 1 bit."""
        e.set("msr", (e.get("msr") & ~MSR_C) | (carry.zext(32) << 2))

    @staticmethod
    def msr(e: Emitter) -> V:
        """MSR as it is read: CC is a copy of C."""
        msr = e.get("msr")
        return msr | ((msr & MSR_C) << 29)

    @staticmethod
    def enabled(e: Emitter) -> V:
        """Whether exceptions are (MSR[EE])."""
        return e.get("msr").bit(8)
