"""Every instruction, assembled, decoded and disassembled; the text against binutils'."""

from __future__ import annotations

import os
import random
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ratite.targets.microblaze.isa import build
from tests.oracle.microblaze_gen import Maker

STREAMS: dict[str, object] = {"fsl-links": 16, "use-extended-fsl-instr": True}
ISA = build(STREAMS)
LITTLE = build({**STREAMS, "big": False})
OBJDUMP = shutil.which("microblaze-xilinx-elf-objdump") or shutil.which(
    os.path.expanduser("~/microblaze/bin/microblaze-xilinx-elf-objdump"))
#: binutils 2.40 doesn't know these or shows them otherwise
UNKNOWN = {"bsefi", "bsifi", "mbar", "mfs", "mts", "wdc", "wdc.flush", "wdc.clear", "wic"}


@pytest.mark.parametrize("name", sorted(ISA.by_name))
@settings(max_examples=20, deadline=None)
@given(data=st.data())
def test_round_trip(name: str, data: st.DataObject) -> None:
    insn = ISA.by_name[name]
    operands = {}
    for field_name in insn.pattern.pieces:
        field = ISA.fields[field_name]
        low = -(1 << field.width - 1) if field.signed else 0
        operands[field_name] = data.draw(st.integers(low, low + (1 << field.width) - 1), field_name)
    code = ISA.assemble(name, **operands)
    assert code[::-1] == LITTLE.assemble(name, **operands)
    found = ISA.decode(int.from_bytes(code, "big"), 4)
    assert found is not None and found[0].name == name
    for field_name, value in operands.items():
        assert found[1][ISA.fields[field_name].operand or field_name] == value & 0xFFFFFFFF
    assert ISA.disassemble(0, code)[0][2].split("\t")[0] == name


def test_every_instruction_is_legal_in_every_context() -> None:
    assert all(insn.contexts == ISA.contexts for insn in ISA.insns) and len(ISA.insns) > 110


def _plain(text: str, addr: int) -> str:
    """Binutils' text in our form: a branch shows its target."""
    text = text.split("//")[0].strip()
    m = re.fullmatch(r"(b(?:r|eq|ne|lt|le|gt|ge)l?id?|bri)\t(.*?)(-?\d+)", text)
    if m:
        text = f"{m[1]}\t{m[2]}{addr + int(m[3]) & 0xFFFFFFFF:#x}"
    return text


@pytest.mark.peer
def test_text_is_binutils(tmp_path: Path) -> None:
    if OBJDUMP is None:
        pytest.skip("microblaze-xilinx-elf-objdump is not installed")
    rng = random.Random(1)
    maker = Maker(ISA, rng, 256, lambda insn: insn.name in UNKNOWN)
    code = b"".join(maker.valid().to_bytes(4, "big") for _ in range(4000))
    path = tmp_path / "code.bin"
    path.write_bytes(code)
    command = [OBJDUMP, "-D", "-z", "-b", "binary", "-m", "MicroBlaze", "-EB", str(path)]
    out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    theirs = {int(m[1], 16): m[2] for m in re.finditer(r"^\s*([0-9a-f]+):\t[0-9a-f ]+\t(.*)$", out, re.M)}
    different = [(text, theirs[addr]) for addr, _, text in ISA.disassemble(0, code)
                 if text.strip() != _plain(theirs[addr], addr)]
    assert len(theirs) == 4000 and not different, different[:10]
