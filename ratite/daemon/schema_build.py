"""Makes `ratite/schema/resolved.json` from the schema's sources; `--check` fails when the file is stale.

    python -m ratite.daemon.schema_build [--check]

A daemon loads the result and compiles nothing at its start.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

SCHEMA = Path(__file__).resolve().parent.parent / "schema"
SOURCE = SCHEMA / "ratite-schema.json"
RESOLVED = SCHEMA / "resolved.json"


def build() -> bytes:
    """The resolved schema's file.  SchemaError for a fault in the sources."""
    from ratite.qapi.schema import compile_schema

    data = compile_schema(str(SOURCE)).to_json()
    definitions = ",\n".join(json.dumps(each, separators=(",", ":")) for each in data["definitions"])
    return f'{{"version":{data["version"]},"definitions":[\n{definitions}\n]}}\n'.encode()


def main(argv: Sequence[str] | None = None) -> int:
    """Build, or check; the exit status."""
    arguments = sys.argv[1:] if argv is None else argv
    made = build()
    if "--check" in arguments:
        if RESOLVED.exists() and RESOLVED.read_bytes() == made:
            return 0
        print(f"{RESOLVED} is stale: run python -m ratite.daemon.schema_build", file=sys.stderr)
        return 1
    RESOLVED.write_bytes(made)
    return 0


if __name__ == "__main__":
    sys.exit(main())
