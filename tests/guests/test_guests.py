"""The guests are what their manifest says, and the two sides of the demo are one piece each."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
from elftools.elf.elffile import ELFFile

HERE = Path(__file__).parent


def test_sources_and_elfs_are_as_the_build_wrote_them() -> None:
    spec = importlib.util.spec_from_file_location("guest_manifest", HERE / "manifest.py")
    assert spec and spec.loader
    manifest = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(manifest)
    assert manifest.check() == []


@pytest.mark.parametrize("name", sorted(path.name for path in (HERE / "elf").glob("*.elf") if "-linux." not in path.name))
def test_elf_is_of_its_board(name: str) -> None:
    machine, bits, little, base = {
        "rv64": ("EM_RISCV", 64, True, 0x80000000),
        "rv32": ("EM_RISCV", 32, True, 0x80000000),
        "mb": ("EM_MICROBLAZE", 32, False, 0x100),
        "mbel": ("EM_MICROBLAZE", 32, True, 0x100),
        "s3adsp1800": ("EM_MICROBLAZE", 32, False, 0x90000000),
        "ml605": ("EM_MICROBLAZE", 32, True, 0x50000000),
    }[name.split(".")[1]]
    with (HERE / "elf" / name).open("rb") as file:
        elf = ELFFile(file)
        got = elf["e_machine"], elf.elfclass, elf.little_endian, elf["e_entry"]
        segments = [segment for segment in elf.iter_segments() if segment["p_type"] == "PT_LOAD"]
        symbols = {symbol.name: symbol["st_value"] for symbol in elf.get_section_by_name(".symtab").iter_symbols()}
        assert got == (machine, bits, little, base)
        assert len(segments) == 1
        # The image that the demo's guests checksum is exactly what the file loads.
        assert segments[0]["p_paddr"] == symbols["__image_start"]
        assert segments[0]["p_filesz"] == symbols["__image_end"] - symbols["__image_start"]
