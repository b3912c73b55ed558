"""The package's sources, parsed once for all house tests."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

import ratite

PACKAGE = Path(ratite.__file__).parent
ROOT = PACKAGE.parent


def none(offenders: list[str], pending: tuple[str, ...] = ()) -> None:
    """Fail with all offenders, one a line; those that begin with a `pending` text are known and on their way out."""
    offenders = [text for text in offenders if not text.startswith(pending)]
    if offenders:
        pytest.fail("\n".join([f"{len(offenders)} offenders:", *offenders]), pytrace=False)


class Source(NamedTuple):
    """One module: `name` dotted, `path` for messages, `tree` its syntax."""

    name: str
    path: str
    text: str
    tree: ast.Module

    @property
    def room(self) -> str:
        """The folder below the package; "" for the package's own files."""
        parts = self.name.split(".")
        return parts[1] if len(parts) > 1 else ""


@cache
def sources() -> tuple[Source, ...]:
    """Every module of the package."""
    found = []
    for path in sorted(PACKAGE.rglob("*.py")):
        relative = path.relative_to(ROOT)
        name = ".".join(relative.with_suffix("").parts).removesuffix(".__init__")
        text = path.read_text()
        found.append(Source(name, str(relative), text, ast.parse(text, str(relative))))
    return tuple(found)


def imports(source: Source) -> Iterator[tuple[str, int]]:
    """What a module imports, absolute, with the line; imports inside functions and under TYPE_CHECKING too."""
    package = source.name if source.path.endswith("__init__.py") else source.name.rpartition(".")[0]
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, node.lineno
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*above, base] if base else above)
            if base == "ratite":
                for alias in node.names:
                    yield f"ratite.{alias.name}", node.lineno
            else:
                yield base, node.lineno


def docstrings(tree: ast.Module) -> set[int]:
    """Ids of the nodes that are docstrings."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)) and node.body:
            first = node.body[0]
            if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str):
                found.add(id(first.value))
    return found


def strings(source: Source) -> Iterator[tuple[str, int]]:
    """The string constants of a module that are no docstrings, with the line."""
    skip = docstrings(source.tree)
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in skip:
            yield node.value, node.lineno
