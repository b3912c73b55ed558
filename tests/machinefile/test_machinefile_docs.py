"""The examples of docs/machine-files.md compile, and fail as it says; what it says of bounds is so."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from ratite.qapi import machinefile
from ratite.qapi.machinefile import document, expand, expression, files
from ratite.qapi.machinefile.compile import Compiler

TEXT = (Path(__file__).parents[2] / "docs" / "machine-files.md").read_text()
BLOCKS = {match[1]: match[0] for match in re.finditer(r"(?<=```yaml\n)# file: (\S+)\n.*?(?=```)", TEXT, re.DOTALL)}


@pytest.mark.parametrize("name", sorted(BLOCKS))
def test_the_examples(name: str, compiler: Compiler) -> None:
    if name == "wrong.yaml":
        told = TEXT.partition("```text\n")[2].partition("```")[0]
        with pytest.raises(machinefile.MachineFileError) as caught:
            compiler.compile_text(BLOCKS[name], name=name)
        assert caught.value.desc == told.strip()
    else:
        assert len(compiler.compile_text(BLOCKS[name], {}, files.read, name).commands) > 8


def test_all_blocks_are_seen() -> None:
    assert len(BLOCKS) == TEXT.count("```yaml") == 5


def test_the_python() -> None:
    names: dict[str, object] = {}
    exec(TEXT.partition("```python\n")[2].partition("```")[0], names)
    made = names["made"]
    assert isinstance(made, machinefile.Compiled)
    assert {"qom-type": "memory-backend-ram", "id": "ram", "size": 1 << 30} in [arguments for _, arguments in made.commands]


def test_the_bounds() -> None:
    told = TEXT.partition("Bounded are: ")[2].partition("\n\n")[0]
    assert document.TEXT_MAX == 1 << 20
    numbers = (document.DEPTH_MAX, document.VALUES_MAX, expand.WORK_MAX, expand.DOCUMENTS_MAX, expand.NESTING_MAX)
    for number in (*numbers, expression.TEXT_MAX):
        assert f"{number:,}" in told
    assert expression.STRING_MAX == 64 << 10
