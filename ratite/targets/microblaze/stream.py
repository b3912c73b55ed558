"""Stream instructions: get, getd, put, putd and their variants. UG984, chapter 5; "AXI4-Stream Interface".

A variant has its letters before the name: t test, n non-blocking, e exception, c control, a atomic. All of them are there
with C_FSL_LINKS; t, e, a and the dynamic forms (the link's number in rB) with C_USE_EXTENDED_FSL_INSTR as well.

The CPU sees each link as two lines, bits of ``irq_lines``: Sn_AXIS has a word (TVALID), Mn_AXIS takes one (TREADY). Only
where a line says so the CPU object is asked. A blocking instruction whose link isn't ready sleeps where it is
(``Emitter.wait``); interrupts end the wait only with the extended instructions, outside of delay slots and not for an
atomic one.

What UG984 leaves open: rD of a failed non-blocking get keeps its value; a link number from C_FSL_LINKS on means link 0, as
earlier editions say; an atomic instruction in a delay slot protects nothing behind it. With MSR[EE] = 0 there is no stream
exception: rD gets the word.
"""

from __future__ import annotations

from functools import partial
from itertools import product

from ratite.core.isa.emitter import Emitter
from ratite.core.isa.operands import Operands
from ratite.core.isa.state import StateField
from ratite.core.isa.value import V
from ratite.targets.microblaze.config import Config
from ratite.targets.microblaze.kit import EC_STREAM, ESR_RX, HELD, MSR_C, MSR_FSL, SLOTS, Kit

#: bits of irq_lines: the first link's TVALID and TREADY
LINE_GET, LINE_PUT = 16, 32
#: what ``Emitter.ask`` asks; the value: word, link << 32, control << 36, test << 37. A get answers word, control << 32,
#: valid << 33; a put: 1 where it was taken
ASK_GET, ASK_PUT = 0, 1
LINK_SHIFT, CONTROL_SHIFT, TEST_SHIFT = 32, 36, 37
ANSWER_LAST, ANSWER_VALID = 32, 33

#: the field ``stall``: number of the line that is waited for, and these
INTERRUPTIBLE, STALLED = 0x40, 0x80

_LETTERS = "tneca"
_T, _N, _E, _C, _A = 1, 2, 4, 8, 16
_EXTENDED = _T | _E | _A


def state(c: Config) -> list[StateField]:
    """The fields that ``c`` has."""
    return [StateField("stall", 8, text="what a stream instruction waits for", hidden=True)] if c.fsl_links else []


def declare(k: Kit) -> None:
    """All of them, as far as they are configured."""
    if not k.c.fsl_links:
        return
    _static(k)
    if k.c.use_extended_fsl_instr:
        _dynamic(k)


def _variants(k: Kit, letters: str) -> list[tuple[str, int]]:
    """(letters before the name, flags) of the variants that are configured, the plain one first."""
    found = []
    for chosen in product((False, True), repeat=len(letters)):
        flags = sum(1 << _LETTERS.index(x) for x, on in zip(letters, chosen, strict=True) if on)
        if k.c.use_extended_fsl_instr or not flags & _EXTENDED:
            found.append(("".join(x for x, on in zip(letters, chosen, strict=True) if on), flags))
    return found


def _bits(flags: int, order: str) -> str:
    """Bits of an encoding, by the letters that they stand for."""
    return "".join(str(flags >> _LETTERS.index(x) & 1) for x in order)


def _static(k: Kit) -> None:
    @k.control("get", "011011 rd 00000 0 00000 000000 link", "{rd}, {link}", slots=True, moves={"flags": 0})
    def get(e: Emitter, i: Operands) -> None:
        _get(k, e, i, i.link)

    @k.control("put", "011011 00000 ra 1 00000 000000 link", "{ra}, {link}", slots=True, moves={"flags": 0})
    def put(e: Emitter, i: Operands) -> None:
        _put(k, e, i, i.link)

    for letters, flags in _variants(k, "tneca")[1:]:
        k.isa.alias(f"{letters}get", f"011011 rd 00000 0 {_bits(flags, 'nctae')} 000000 link", "{rd}, {link}", "get",
                    flags=flags)
    for letters, flags in _variants(k, "tnca")[1:]:
        bits = f"1 {_bits(flags, 'nctae')} 000000 link"
        if flags & _T:
            k.isa.alias(f"{letters}put", f"011011 00000 00000 {bits}", "{link}", "put", ra=0, flags=flags)
        else:
            k.isa.alias(f"{letters}put", f"011011 00000 ra {bits}", "{ra}, {link}", "put", flags=flags)


def _dynamic(k: Kit) -> None:
    @k.control("getd", "010011 rd 00000 rb 0 00000 00000", "{rd}, {rb}", slots=True, moves={"flags": 0})
    def getd(e: Emitter, i: Operands) -> None:
        _get(k, e, i, k.rb(e, i) & 15)

    @k.control("putd", "010011 00000 ra rb 1 00000 00000", "{ra}, {rb}", slots=True, moves={"flags": 0})
    def putd(e: Emitter, i: Operands) -> None:
        _put(k, e, i, k.rb(e, i) & 15)

    for letters, flags in _variants(k, "tneca")[1:]:
        k.isa.alias(f"{letters}getd", f"010011 rd 00000 rb 0 {_bits(flags, 'nctae')} 00000", "{rd}, {rb}", "getd", flags=flags)
    for letters, flags in _variants(k, "tnca")[1:]:
        bits = f"1 {_bits(flags, 'nctae')} 00000"
        if flags & _T:
            k.isa.alias(f"{letters}putd", f"010011 00000 00000 rb {bits}", "{rb}", "putd", ra=0, flags=flags)
        else:
            k.isa.alias(f"{letters}putd", f"010011 00000 ra rb {bits}", "{ra}, {rb}", "putd", flags=flags)


def _get(k: Kit, e: Emitter, i: Operands, link: V) -> None:
    flags = i.flags
    link = _begin(k, e, link)
    line = link + LINE_GET
    missing = partial(_missing, k, e, flags, line)
    e.if_(_quiet(e, line), missing)
    test = (flags & _T).ne(0).zext(64) << TEST_SHIFT
    answer = e.ask(ASK_GET, test | link.zext(64) << LINK_SHIFT)
    e.if_(answer.bit(ANSWER_VALID) ^ 1, missing)
    word = answer.trunc(32)
    mismatch = answer.bit(ANSWER_LAST) ^ (flags & _C).ne(0)
    msr = _succeeded(e, flags)
    e.set("msr", msr | e.select(mismatch, e.const(MSR_FSL), 0))
    if k.c.fsl_exception:
        def refuse() -> None:
            e.set("edr", word)
            e.routine("exception", link << ESR_RX | EC_STREAM)

        e.if_(mismatch & (flags & _E).ne(0) & k.enabled(e), refuse)
    k.set_rd(e, i, word)
    _end(k, e, flags)


def _put(k: Kit, e: Emitter, i: Operands, link: V) -> None:
    flags = i.flags
    link = _begin(k, e, link)
    line = link + LINE_PUT
    missing = partial(_missing, k, e, flags, line)
    e.if_(_quiet(e, line), missing)
    control = (flags & _C).ne(0).zext(64) << CONTROL_SHIFT
    test = (flags & _T).ne(0).zext(64) << TEST_SHIFT
    answer = e.ask(ASK_PUT, k.ra(e, i).zext(64) | link.zext(64) << LINK_SHIFT | control | test)
    e.if_(answer.bit(0) ^ 1, missing)
    e.set("msr", _succeeded(e, flags))
    _end(k, e, flags)


def _begin(k: Kit, e: Emitter, link: V) -> V:
    """The link that is meant; user mode may have to be refused."""
    if not k.c.mmu_privileged_instr & 1:
        k.privileged(e)
    e.set("stall", 0)
    return e.select(link.uge(k.c.fsl_links), 0, link)


def _quiet(e: Emitter, line: V) -> V:
    return (e.get("irq_lines") >> line.zext(64)).bit(0) ^ 1


def _succeeded(e: Emitter, flags: V) -> V:
    """MSR behind an instruction that moved a word: a non-blocking one clears C."""
    msr = e.get("msr")
    return e.select((flags & _N).ne(0), msr & ~MSR_C, msr)


def _missing(k: Kit, e: Emitter, flags: V, line: V) -> None:
    """Terminator: the link isn't ready."""

    def go_on() -> None:
        e.set("msr", e.get("msr") | MSR_C)
        _end(k, e, flags)

    def wait(ctx: str) -> None:
        e.set("stall", (line | (STALLED if ctx else STALLED | INTERRUPTIBLE)).trunc(8))
        e.wait(ctx)

    def block() -> None:
        if e.ctx:
            wait(e.ctx)
        elif k.c.use_extended_fsl_instr:
            e.if_((flags & _A).ne(0), lambda: wait(HELD), lambda: wait(""))
        else:
            wait(HELD)

    e.if_((flags & _N).ne(0), go_on, block)


def _end(k: Kit, e: Emitter, flags: V) -> None:
    """Terminator: on, and into a held instruction behind an atomic one."""
    if e.ctx in SLOTS:
        k.finish(e)
    else:
        e.if_((flags & _A).ne(0), lambda: e.next_in(HELD), e.next)
