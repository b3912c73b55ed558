"""No module-level mutable state: two machines in one process share only read-only tables and the code cache."""

from __future__ import annotations

import ast
import collections
import importlib
import sys
import types
from functools import cache

from house_sources import none, sources

MUTABLE = (list, dict, set, bytearray, collections.deque, collections.OrderedDict, collections.defaultdict, collections.Counter)


def test_no_function_rebinds_a_global() -> None:
    offenders = [
        f"{source.path}:{node.lineno}: global {', '.join(node.names)}"
        for source in sources()
        for node in ast.walk(source.tree)
        if isinstance(node, ast.Global)
    ]
    none(offenders)


@cache
def modules() -> list[types.ModuleType]:
    """Every module of the package that can be imported here; those with an optional dependency that is missing can't."""
    found = []
    for source in sources():
        if source.name.endswith("__main__"):
            continue
        try:
            found.append(importlib.import_module(source.name))
        except ImportError as error:
            assert (error.name or "").split(".")[0] in ("llvmlite", "aiohttp", "yaml"), f"{source.name}: {error}"
    return found


def test_no_module_holds_mutable_values() -> None:
    offenders = [
        f"{module.__name__}.{name} is a {type(value).__name__}; tuple, frozenset or MappingProxyType can't change"
        for module in modules()
        for name, value in vars(module).items()
        if isinstance(value, MUTABLE) and not (name.startswith("__") and name.endswith("__"))
    ]
    none(offenders)


def test_no_module_holds_locks_threads_or_counters() -> None:
    """Those are the signs of state that a module keeps for the whole process."""
    import itertools
    import threading

    state = (type(threading.Lock()), type(threading.RLock()), threading.Condition, threading.Event, threading.Thread,
             threading.local, itertools.count)  # fmt: skip
    offenders = [
        f"{module.__name__}.{name} is a {type(value).__name__}"
        for module in modules()
        for name, value in vars(module).items()
        if isinstance(value, state)
    ]
    none(offenders)


def test_importing_everything_imports_no_event_loop_into_core() -> None:
    """Guards the import walk above: what core's modules bind is visible in them."""
    assert not any(
        isinstance(value, types.ModuleType) and value is sys.modules.get("asyncio")
        for module in modules()
        if module.__name__.startswith(("ratite.core", "ratite.hw", "ratite.targets"))
        for value in vars(module).values()
    )
