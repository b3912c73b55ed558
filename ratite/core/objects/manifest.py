"""Makes `ratite/manifest.json` from the declarations; `--check` fails when the file is stale.

    python -m ratite.core.objects.manifest [--check]

Walks the entry points of pyproject.toml (groups below), imports everything they name and writes what introspection
needs to know, so that a daemon imports none of it:

    {"types": {name: row}, "targets": {name: row}, "accelerators": {name: row}}

An entry point's value is a package with `TYPES` (ratite.objects, ratite.devices, ratite.targets), `TARGETS`
(ratite.targets) or `ACCELERATORS` (ratite.accelerators).  Rows of types: see describe.py.
"""

from __future__ import annotations

import json
import sys
import tomllib
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from ratite.core.objects.describe import describe_package
from ratite.qapi.generated import keep

GROUPS = ("ratite.objects", "ratite.devices", "ratite.targets", "ratite.accelerators")
PACKAGE = Path(__file__).resolve().parents[2]
MANIFEST = PACKAGE / "manifest.json"


def packages(pyproject: Path) -> list[str]:
    """Every package that our own entry points name, each once, in the order of GROUPS."""
    points = tomllib.loads(pyproject.read_text())["project"]["entry-points"]
    return list(dict.fromkeys(value for group in GROUPS for _, value in sorted(points.get(group, {}).items())))


def describe(package: str) -> dict[str, dict[str, Any]]:
    """What one package declares, as the manifest holds it."""
    module = import_module(package)
    targets = {row["name"]: {**row, "module": package} for row in getattr(module, "TARGETS", ())}
    accelerators = {row["name"]: dict(row) for row in getattr(module, "ACCELERATORS", ())}
    return {"types": describe_package(package), "targets": targets, "accelerators": accelerators}


def build(names: Sequence[str]) -> dict[str, dict[str, Any]]:
    """The manifest of these packages; sorted, so that equal declarations give equal bytes."""
    made: dict[str, dict[str, Any]] = {"types": {}, "targets": {}, "accelerators": {}}
    for package in names:
        for table, rows in describe(package).items():
            for name, row in rows.items():
                known = made[table].setdefault(name, row)
                if known != row:
                    raise TypeError(f"{table} '{name}' is declared by {known['module']} and by {row['module']}")
    # The order of accelerators is their preference; the others have none.
    return {
        "types": dict(sorted(made["types"].items())),
        "targets": dict(sorted(made["targets"].items())),
        "accelerators": made["accelerators"],
    }


def text(manifest: dict[str, dict[str, Any]]) -> str:
    """The file's content: one type a line, so that a diff shows which changed."""
    tables = []
    for table, rows in manifest.items():
        lines = ",\n".join(f" {json.dumps(name)}: {json.dumps(row, ensure_ascii=False)}" for name, row in rows.items())
        tables.append(f"{json.dumps(table)}: {{\n{lines}\n}}")
    return "{\n" + ",\n".join(tables) + "\n}\n"


def main(argv: Sequence[str]) -> int:
    """Writes the manifest, or with --check compares it; exit status."""
    made = text(build(packages(PACKAGE.parent / "pyproject.toml"))).encode()
    return keep({MANIFEST: made}, argv, "python -m ratite.core.objects.manifest")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
