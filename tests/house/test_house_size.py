"""Modules stay below 600 lines and functions below 60: what grows past it is two things."""

from __future__ import annotations

import ast

from house_sources import none, sources

MODULE_LINES = 600
FUNCTION_LINES = 60


def test_modules_are_short() -> None:
    offenders = [f"{source.path}: {lines} lines" for source in sources() if (lines := source.text.count("\n")) >= MODULE_LINES]
    none(offenders)


def test_functions_are_short() -> None:
    offenders = [
        f"{source.path}:{node.lineno}: {node.name} has {lines} lines"
        for source in sources()
        for node in ast.walk(source.tree)
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
        if (lines := (node.end_lineno or node.lineno) - node.lineno + 1) > FUNCTION_LINES
    ]
    none(offenders)


def test_every_module_says_what_it_is() -> None:
    offenders = [source.path for source in sources() if source.text.strip() and not ast.get_docstring(source.tree)]
    none(offenders)
