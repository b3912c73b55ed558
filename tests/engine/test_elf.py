"""The loader of relocatable objects: good ones run, any other is refused without harm."""

from __future__ import annotations

import contextlib
import random
import struct

import pytest

from ratite.core.engine.compiler import CompileFailed, compile_text
from ratite.core.engine.elf import BadObject, LoadedObject
from ratite.core.engine.native import Query

TEXT = """
@table = hidden constant [2 x ptr] [ptr @one, ptr @two]
define hidden i64 @one(ptr %p) noinline { ret i64 1 }
define hidden i64 @two(ptr %p) noinline { ret i64 2 }
define hidden i64 @pick(ptr %p) {
  %k = load i64, ptr %p
  %q = getelementptr ptr, ptr @table, i64 %k
  %f = load volatile ptr, ptr %q
  %r = call i64 %f(ptr %p)
  ret i64 %r
}
"""


@pytest.fixture(scope="module")
def image() -> bytes:
    return compile_text(TEXT)


def test_code_and_tables_are_linked(image: bytes) -> None:
    import ctypes

    loaded = LoadedObject(image)
    pick = Query(loaded.symbols["pick"])
    for k in (0, 1):
        word = ctypes.c_uint64(k)
        assert pick(ctypes.addressof(word)) == k + 1
    loaded.close()


def test_memory_is_sealed(image: bytes) -> None:
    from pathlib import Path

    loaded = LoadedObject(image)
    rows = [line.split() for line in Path("/proc/self/maps").read_text().splitlines()]
    at = loaded.symbols["pick"]
    home = [row[1] for row in rows if int(row[0].split("-")[0], 16) <= at < int(row[0].split("-")[1], 16)]
    assert home == ["r-xp"]
    loaded.close()


def test_an_object_that_needs_others_is_refused() -> None:
    image = compile_text("declare i64 @abroad()\ndefine hidden i64 @f() {\n %r = call i64 @abroad()\n ret i64 %r\n}")
    with pytest.raises(BadObject, match="which is not defined"):
        LoadedObject(image)


@pytest.mark.parametrize("seed", range(300))
def test_a_damaged_object_is_refused_or_loads(image: bytes, seed: int) -> None:
    rng = random.Random(seed)
    data = bytearray(image)
    if rng.random() < 0.2:
        del data[rng.randrange(len(data)):]
    else:  # the headers and tables are where damage matters
        shoff, = struct.unpack_from("<Q", data, 40)
        for _ in range(rng.randrange(1, 4)):
            at = rng.choice([rng.randrange(64), shoff + rng.randrange(len(data) - shoff), rng.randrange(len(data))])
            data[at] = rng.getrandbits(8)
    with contextlib.suppress(BadObject):
        LoadedObject(bytes(data)).close()


def test_bad_text_is_an_error_with_a_reason() -> None:
    with pytest.raises(CompileFailed, match="the compiler ended with 1"):
        compile_text("define nonsense")


def test_a_compiler_that_works_for_too_long_is_ended() -> None:
    """By its processor time: on a busy host it may wait as long as it likes."""
    steps = "\n".join(f"  %v{k} = mul i64 %v{k - 1}, %v{k // 2}" for k in range(1, 400))
    much = "\n".join(f"define i64 @f{n}(i64 %v0) {{\n{steps}\n  ret i64 %v399\n}}" for n in range(200))
    with pytest.raises(CompileFailed, match="the compiler took more than 1 s of processor time"):
        compile_text(much, cpu_seconds=1)
