"""Images: each CPU its own program; what isn't one is refused before a byte is written."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import pytest
from core_kit import Bench, elf
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ratite.core import loader
from ratite.core.memory import limits
from ratite.qapi.errors import GenericError


@pytest.fixture
def bench() -> Iterator[Bench]:
    made = Bench()
    yield made
    made.machine.close()


def ram(bench: Bench, at: int, size: int) -> bytes:
    data: bytes = bench.call(bench.machine.resolve("mem").read, at, size)
    return data


def test_an_elf_goes_to_its_physical_addresses_and_again_at_reset(bench: Bench, tmp_path: Path) -> None:
    path = elf(tmp_path / "a.elf", [(0x200, b"code", 4), (0x1000, b"data", 0x20)], entry=0x204)
    bench.basic(image=path)
    bench.call(lambda: None)
    bench.exit_preconfig()
    assert ram(bench, 0x200, 4) == b"code" and ram(bench, 0x1000, 0x21) == b"data" + bytes(0x1D)
    assert bench.get_property("cpu0", "pc") == 0x204 == bench.get_property("cpu0", "reset-pc")
    bench.call(bench.machine.resolve("mem").write, 0x1002, b"XXXXX")
    os.unlink(path)
    bench.reset()
    assert ram(bench, 0x1000, 8) == b"data" + bytes(4), "a reset loads it again, also when the file is gone"


def test_the_files_own_head_needs_no_ram(bench: Bench, tmp_path: Path) -> None:
    """A linker without a script draws it into the first segment, a page before where the code is linked to."""
    path = tmp_path / "a.elf"
    for at, loaded in ((0xFFFF_F000, False), (0x2000, True)):
        elf(path, [(at, bytes(0x1000 - 120) + b"code", 0x1010)], entry=at + 0x1000)
        data = bytearray(path.read_bytes())
        # The segment begins at the file's first byte: 120 are its head.
        data[72:80], data[96:104], data[104:112] = bytes(8), (0x1004).to_bytes(8, "little"), (0x1010).to_bytes(8, "little")
        path.write_bytes(data)
        image = loader.read_elf(str(path), 0x1234, 64, False)
        piece = image.segments[0]
        assert (piece.paddr, piece.filesz, piece.head) == (at, 0x1004, 0x1000)
        if loaded:
            bench.basic(image=str(path))
            bench.exit_preconfig()
            assert ram(bench, 0x2000, 4) == b"\x7fELF" and ram(bench, 0x3000, 4) == b"code"
        else:
            piece.drop_head()
            assert (piece.paddr, piece.offset, piece.filesz, piece.memsz) == (at + 0x1000, 0x1000, 4, 0x10)


def test_raw_binaries_and_the_choice_of_the_first_address(bench: Bench, tmp_path: Path) -> None:
    (tmp_path / "raw").write_bytes(b"\x01\x02\x03")
    bench.basic(**{"image-raw": str(tmp_path / "raw"), "image-addr": 0x3000})
    bench.device_add("fake-cpu", "c1", {"cluster": "cl", "cpu-index": 1, "reset-pc": 0})
    bench.device_add("fake-cpu", "c2", {"cluster": "cl", "cpu-index": 2})
    bench.exit_preconfig()
    assert ram(bench, 0x3000, 4) == b"\x01\x02\x03\x00"
    assert [bench.get_property(id, "pc") for id in ("cpu0", "c1", "c2")] == [0x3000, 0, 0x100]


def test_each_byte_order_and_class_has_its_own_images(bench: Bench, tmp_path: Path) -> None:
    for bits, big in ((32, True), (64, True), (32, False)):
        path = elf(tmp_path / f"{bits}{big}", [(0x10, b"abcd", 4)], bits=bits, big=big, entry=0x10)
        image = loader.read_elf(path, 0x1234, bits, big)
        assert image.entry == 0x10 and image.segments[0].paddr == 0x10


@pytest.mark.parametrize(("bits", "big"), [(32, True), (64, False)])
def test_more_program_headers_than_the_elf_header_can_count(tmp_path: Path, bits: int, big: bool) -> None:
    """System V ABI: e_phnum is PN_XNUM then, and the number is in the first section's sh_info."""
    path = Path(elf(tmp_path / "many", [(0x10, b"abcd", 4)], bits=bits, big=big, entry=0x10))
    order: Literal["big", "little"] = "big" if big else "little"
    data = bytearray(path.read_bytes())
    number, sections, info = (44, 32, 28) if bits == 32 else (56, 40, 44)
    data[number : number + 2] = b"\xff\xff"
    path.write_bytes(data)
    with pytest.raises(GenericError, match="in a section that is not there"):
        loader.read_elf(str(path), 0x1234, bits, big)
    data[sections : sections + bits // 8] = len(data).to_bytes(bits // 8, order)
    data[number + 2 : number + 4] = (64).to_bytes(2, order)
    path.write_bytes(bytes(data) + bytes(info) + (1).to_bytes(4, order) + bytes(60 - info))
    assert loader.read_elf(str(path), 0x1234, bits, big).segments[0].paddr == 0x10


def bad_images(folder: Path) -> dict[str, tuple[str, str]]:
    good = elf(folder / "good", [(0x200, b"code" * 100, 400)])
    whole = Path(good).read_bytes()
    (folder / "short").write_bytes(whole[:-1])
    (folder / "head").write_bytes(whole[:30])
    (folder / "stub").write_bytes(whole[:6])
    for number in (0, 1, 4, 0xFE00):
        kind = bytearray(whole)
        kind[16:18] = number.to_bytes(2, "little")
        (folder / f"type{number}").write_bytes(kind)
    (folder / "noelf").write_bytes(b"#!/bin/sh\n")
    (folder / "empty").write_bytes(b"")
    os.mkfifo(folder / "fifo")
    odd = bytearray(whole)
    odd[0x38:0x3A] = b"\xff\x7f"
    (folder / "many").write_bytes(odd)
    return {
        "missing": (str(folder / "nope"), "Could not open '{}': No such file or directory"),
        "folder": (str(folder), "Could not open '{}': "),
        "fifo": (str(folder / "fifo"), "not a regular file"),
        "nul": ("a\0b", "embedded null byte"),
        "none": (str(folder / "type0"), "it is an ELF file of type ET_NONE, an image must be of type ET_EXEC or ET_DYN"),
        "object": (str(folder / "type1"), "it is an ELF file of type ET_REL, an image must be of type ET_EXEC or ET_DYN"),
        "core": (str(folder / "type4"), "it is an ELF file of type ET_CORE, an image must"),
        "odd": (str(folder / "type65024"), "it is an ELF file of type 0xfe00, an image must"),
        "unreadable": ("/proc/self/mem", "Could not load image '{}': it can't be read: Input/output error"),
        "noelf": (str(folder / "noelf"), "Could not load image '{}': not an ELF file"),
        "empty": (str(folder / "empty"), "not an ELF file"),
        "stub": (str(folder / "stub"), "the ELF header is truncated"),
        "head": (str(folder / "head"), "not a valid ELF file, maybe truncated"),
        "short": (str(folder / "short"), "segment 0 ends at byte 520 of a file of 519: the file is truncated"),
        "many": (str(folder / "many"), "not a valid ELF file"),
        "machine": (elf(folder / "m", [(0, b"x", 1)], machine=62), "it is for ELF machine 62, the CPU is machine 4660"),
        "order": (elf(folder / "o", [(0, b"x", 1)], big=True), "it is big-endian, the CPU is little-endian"),
        "class": (elf(folder / "c", [(0, b"x", 1)], bits=32), "it is a 32-bit ELF, the CPU is 64-bit"),
        "nothing": (elf(folder / "n", []), "it has no segment to load"),
        "large": (
            elf(folder / "l", [(0x200, b"x", 1), (0x8000, b"y", 0x8001)]),
            "segment 1 (0x8001 bytes at 0x8000) doesn't fit in RAM: no RAM at 0x10000 of 'mem'",
        ),
        "astronomic": (elf(folder / "a", [(0, b"x", 1 << 62)]), "doesn't fit in RAM"),
        "wraps": (elf(folder / "w", [((1 << 64) - 1, b"xy", 2)]), "reaches beyond the 64-bit address space"),
        "device": (elf(folder / "d", [(0x100000, b"x", 1)]), "no RAM at 0x100000 of 'mem'"),
        "files": (elf(folder / "f", [(0, b"xyz", 1)]), "segment 0 has 3 bytes in the file but 1 in memory"),
    }


@pytest.mark.parametrize("case", [
    "missing", "folder", "fifo", "nul", "noelf", "empty", "stub", "head", "short", "many", "machine", "order", "class",
    "none", "object", "core", "odd", "unreadable", "nothing", "large", "astronomic", "wraps", "device", "files",
])
def test_a_bad_image_is_refused_and_nothing_is_written(bench: Bench, tmp_path: Path, case: str) -> None:
    path, text = bad_images(tmp_path)[case]
    good = elf(tmp_path / "fine", [(0x300, b"fine", 4)])
    bench.basic(image=good)
    bench.device_add("fake-cpu", "zz", {"cluster": "cl", "cpu-index": 1, "image": path})
    refusal = bench.error("exit_preconfig")
    assert text.format(path) in refusal and "/machine/peripheral/zz" in refusal
    bench.device_del("zz")
    bench.exit_preconfig()
    assert text.format(path) in bench.error("device_add", "fake-cpu", "zz", {"cluster": "cl", "cpu-index": 1, "image": path})
    assert ram(bench, 0x300, 4) == b"fine"


def test_images_are_checked_against_the_host(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "_own_pages", lambda: (0, 0))
    monkeypatch.setattr(limits, "_cgroup_limit", lambda: None)
    monkeypatch.setattr(limits, "_system_limit", lambda: 0x18000)
    (tmp_path / "a").write_bytes(bytes(0x5000))
    (tmp_path / "b").write_bytes(bytes(0x4000))
    bench.basic(**{"image-raw": str(tmp_path / "a")})
    bench.device_add("fake-cpu", "zz", {
        "cluster": "cl", "cpu-index": 1, "image-raw": str(tmp_path / "b"), "image-addr": 0x8000,
    })
    told = "(16384 bytes wanted, 12288 allowed by the host's available memory besides the 86016 of other memory)"
    assert told in bench.error("exit_preconfig")
    monkeypatch.setattr(limits, "_system_limit", lambda: 0x19000)
    bench.exit_preconfig()


def test_raw_images_that_do_not_fit(bench: Bench, tmp_path: Path) -> None:
    (tmp_path / "raw").write_bytes(bytes(0x101))
    (tmp_path / "empty").write_bytes(b"")
    bench.basic()
    bench.exit_preconfig()

    def refusal(name: str, addr: int) -> str:
        props = {"cluster": "cl", "cpu-index": 1, "image-raw": str(tmp_path / name), "image-addr": addr}
        return bench.error("device_add", "fake-cpu", "c1", props)

    assert "the binary (0x101 bytes at 0xff00) doesn't fit in RAM: no RAM at 0x10000" in refusal("raw", 0xFF00)
    assert "no RAM at 0x5000000" in refusal("raw", 0x5000000)
    assert "it is empty" in refusal("empty", 0)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_damaged_elf_is_refused_or_read_but_never_raises(tmp_path: Path, data: Any) -> None:
    path = tmp_path / "x"
    elf(path, [(0x200, b"code", 4), (0x400, b"more", 8)])
    whole = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 6))):
        whole[data.draw(st.integers(16, len(whole) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(whole[: data.draw(st.integers(0, len(whole)))])
    try:
        image = loader.read_elf(str(path), 0x1234, 64, False)
    except GenericError as exc:
        assert str(path) in exc.desc
    else:
        assert all(segment.memsz >= segment.filesz for segment in image.segments)
