"""Short ways to compile a text and to say what must be wrong with it."""

from __future__ import annotations

from collections.abc import Mapping
from textwrap import dedent
from typing import Any

import pytest

from ratite.qapi.errors import GenericError
from ratite.qapi.machinefile.compile import Command, Compiler
from ratite.qapi.machinefile.document import read_document
from ratite.qapi.machinefile.problems import MachineFileError, Problems


def parsed(text: str, name: str = "x") -> Any:
    """A file's document as plain data; MachineFileError for one that can't be read."""
    problems = Problems()
    document = read_document(name, text, problems)
    problems.check()
    assert document is not None
    return document.data


class Kit:
    """`others` are the texts that can be included, by name."""

    def __init__(self, compiler: Compiler) -> None:
        self.compiler = compiler
        self.others: dict[str, str] = {}
        self.asked: list[tuple[str, str, str]] = []

    def read(self, kind: str, name: str, origin: str) -> tuple[str, str]:
        self.asked.append((kind, name, origin))
        if name not in self.others:
            raise GenericError(f"there is no '{name}'")
        return name, dedent(self.others[name])

    def commands(self, body: str, arguments: Mapping[str, Any] | None = None) -> list[Command]:
        """Those of a file with this body, without the first and the last."""
        made = self.compiler.compile_text("ratite: 1\n" + dedent(body), arguments, self.read, "top.yaml").commands
        assert made[0][0] == "machine-create"
        assert made[-1] == ("x-exit-preconfig", {})
        return made[1:-1]

    def problems(self, text: str, arguments: Mapping[str, Any] | None = None) -> list[str]:
        """What is wrong with a whole file, one line each, without the file's name."""
        with pytest.raises(MachineFileError) as caught:
            self.compiler.compile_text(dedent(text), arguments, self.read, "top.yaml")
        assert caught.value.desc == "\n".join(map(str, caught.value.problems))
        return [str(problem).removeprefix("top.yaml:").lstrip() for problem in caught.value.problems]
