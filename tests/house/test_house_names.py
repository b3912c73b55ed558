"""No module of qapi, core, hw or daemon contains a target's name: what is common to all targets knows none."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from functools import cache

from house_sources import PACKAGE, Source, docstrings, none, sources

ROOMS = ("qapi", "core", "hw", "daemon")


def names() -> set[str]:
    """Every target's name, and the folders below targets/."""
    manifest = json.loads((PACKAGE / "manifest.json").read_text())
    folders = {path.name for path in (PACKAGE / "targets").glob("*/") if path.name.isidentifier() and path.name[0] != "_"}
    return set(manifest["targets"]) | folders | {"riscv64", "riscv32", "microblaze", "microblazeel"}


@cache
def device_types() -> set[str]:
    """Names of device types: a chip's name may hold that of the family it was made for ("riscv.sifive.test")."""
    types = json.loads((PACKAGE / "manifest.json").read_text())["types"]
    return {name for name, row in types.items() if row["kind"] == "device"}


def words(source: Source) -> Iterator[tuple[str, int]]:
    """Identifiers and strings of a module; docstrings may give examples."""
    skip, types = docstrings(source.tree), device_types()
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in skip:
            if node.value not in types:
                yield node.value, node.lineno
        elif isinstance(node, ast.Name):
            yield node.id, node.lineno
        elif isinstance(node, ast.Attribute):
            yield node.attr, node.lineno
        elif isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            yield node.name, node.lineno
        elif isinstance(node, ast.arg):
            yield node.arg, node.lineno


def test_no_target_is_named_in_the_common_rooms() -> None:
    pattern = re.compile("|".join(sorted(names(), key=len, reverse=True)), re.IGNORECASE)
    offenders = [
        f"{source.path}:{line}: {word!r} names {match.group()}"
        for source in sources()
        if source.room in ROOMS
        for word, line in words(source)
        if (match := pattern.search(word))
    ]
    none(offenders)
