"""query-qmp-schema to QEMU's rules: a schema rebuilt from a real dump introspects to that dump."""

from __future__ import annotations

import json
import lzma
from pathlib import Path

import pytest
from qapi_reconstruct import Reconstruction

from ratite.qapi.schema import compile_schema
from ratite.qapi.tables import Tables

DUMP = Path(__file__).parent / "data" / "qemu-7.2-riscv64.json.xz"


@pytest.fixture(scope="module")
def dump() -> list[dict[str, object]]:
    with lzma.open(DUMP) as file:
        entries = json.load(file)
    assert isinstance(entries, list)
    return entries


def test_a_real_dump_comes_back(dump: list[dict[str, object]], tmp_path: Path) -> None:
    path = tmp_path / "schema.json"
    path.write_text(Reconstruction(dump).text())
    tables = Tables(compile_schema(str(path)))
    ours = tables.introspect()
    assert [entry["name"] for entry in ours] == [entry["name"] for entry in dump]
    assert ours == dump
    assert json.loads(tables.introspect_bytes()) == dump
