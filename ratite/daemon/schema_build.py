"""Makes the resolved schemas in `ratite/schema` from their sources; `--check` fails when one is stale.

    python -m ratite.daemon.schema_build [--check]

A daemon loads the result and compiles nothing at its start.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

from ratite.qapi.generated import keep

SCHEMA = Path(__file__).resolve().parent.parent / "schema"
SOURCE = SCHEMA / "ratite-schema.json"
RESOLVED = SCHEMA / "resolved.json"
CONTROL_SOURCE = SCHEMA / "control-plane.json"
CONTROL_RESOLVED = SCHEMA / "resolved-control.json"
PRODUCTS = ((SOURCE, RESOLVED), (CONTROL_SOURCE, CONTROL_RESOLVED))


def build(source: Path = SOURCE) -> bytes:
    """The resolved schema's file.  SchemaError for a fault in the sources."""
    from ratite.qapi.schema import compile_schema

    data = compile_schema(str(source)).to_json()
    definitions = ",\n".join(json.dumps(each, separators=(",", ":")) for each in data["definitions"])
    return f'{{"version":{data["version"]},"definitions":[\n{definitions}\n]}}\n'.encode()


def main(argv: Sequence[str] | None = None) -> int:
    """Build, or with `--check` compare; the exit status."""
    made = {resolved: build(source) for source, resolved in PRODUCTS}
    return keep(made, sys.argv[1:] if argv is None else argv, "python -m ratite.daemon.schema_build")


if __name__ == "__main__":
    sys.exit(main())
