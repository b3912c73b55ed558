"""A type's declaration as plain data: what the manifest holds and introspection answers from.

A row of the types table:

    name, parent, abstract, text, kind ("object" | "device" | "cpu" | ""), bus, hotplug, targets, implements, requires,
    module ("ratite.hw.char.ns16550:Ns16550"), properties (as Prop.describe, the type's and its bases'),
    inputs, outputs ({name: count or property name}), regions ({name: size or property name}),
    from-fdt (what it answers to in device trees, see core/device.py), static (CPUs whose model never changes: true),
    computed-lines (the type counts its lines in a way of its own: true)
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from typing import Any

from ratite.core.objects.obj import Obj


def describe_class(cls: type[Obj]) -> dict[str, Any]:
    """The row of one class."""
    parent = next((base.TYPE for base in cls.__mro__[1:] if "TYPE" in base.__dict__ and issubclass(base, Obj)), "")
    lines = (cls.__doc__ or "").strip().splitlines()
    row: dict[str, Any] = {
        "name": cls.TYPE,
        "parent": parent,
        "abstract": cls.ABSTRACT,
        "text": lines[0] if lines else "",
        "kind": cls.KIND,
        "bus": cls.BUS,
        "hotplug": cls.HOTPLUG,
        "targets": list(cls.TARGETS),
        "implements": list(cls.IMPLEMENTS),
        "requires": list(cls.REQUIRES),
        "module": f"{cls.__module__}:{cls.__qualname__}",
        "properties": [prop.describe() for prop in cls.PROPERTIES.values()],
        "inputs": dict(cls.INPUTS),
        "outputs": dict(cls.OUTPUTS),
        "regions": {name: window.size for name, window in getattr(cls, "REGIONS", {}).items()},
    }
    if getattr(cls, "STATIC_MODEL", False):
        row["static"] = True
    if getattr(cls, "FROM_FDT", ()):
        row["from-fdt"] = [dict(rule) for rule in cls.FROM_FDT]  # type: ignore[attr-defined]
    declares = [base for base in cls.__mro__ if "line_counts" in base.__dict__]
    if len(declares) > 1:
        row["computed-lines"] = True
    return row


def classes_of(entry: str) -> Iterator[type[Obj]]:
    """The classes that an entry of a TYPES table names: "module:Class", or "module" for every type defined in it."""
    module_name, _, class_name = entry.partition(":")
    module = import_module(module_name)
    if class_name:
        yield getattr(module, class_name)
        return
    for value in tuple(vars(module).values()):
        if isinstance(value, type) and issubclass(value, Obj) and value.__module__ == module_name and "TYPE" in vars(value):
            yield value


def describe_package(package: str) -> dict[str, dict[str, Any]]:
    """Rows of every type that the package's TYPES name, and of their bases.  Imports them all."""
    rows: dict[str, dict[str, Any]] = {}
    for entry in getattr(import_module(package), "TYPES", ()):
        for cls in classes_of(entry):
            for base in cls.__mro__:
                if "TYPE" not in base.__dict__ or not issubclass(base, Obj):
                    continue
                row = describe_class(base)
                known = rows.setdefault(base.TYPE, row)
                if known["module"] != row["module"]:
                    raise TypeError(f"type '{base.TYPE}' is declared by {known['module']} and by {row['module']}")
    return rows
