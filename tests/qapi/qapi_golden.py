"""Schema fixtures in one text file: `=== name`, the schema, `--- ` lines with what is expected.

`python tests/qapi/qapi_golden.py` writes the messages the compiler gives now into bad-schemas.txt; read the
difference before committing it.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from ratite.qapi.errors import SchemaError
from ratite.qapi.schema import compile_schema

BAD = Path(__file__).parent / "data" / "bad-schemas.txt"


def read_cases() -> list[tuple[str, str, str]]:
    """(name, schema, expected message) of each fixture."""
    cases: list[tuple[str, str, str]] = []
    for chunk in BAD.read_text(encoding="utf-8").split("=== ")[1:]:
        name, _, body = chunk.partition("\n")
        lines = body.splitlines(keepends=True)
        schema = "".join(line for line in lines if not line.startswith("--- "))
        expected = "\n".join(line[4:].rstrip("\n") for line in lines if line.startswith("--- "))
        cases.append((name, schema, expected))
    return cases


def message(name: str, schema: str, folder: Path) -> str:
    """The compiler's message for a schema in a file of that name; "" if it finds no fault."""
    (folder / f"{name}.json").write_text(schema, encoding="utf-8")
    before = Path.cwd()
    os.chdir(folder)
    try:
        compile_schema(f"{name}.json")
    except SchemaError as error:
        return str(error)
    finally:
        os.chdir(before)
    return ""


def main() -> None:
    out: list[str] = []
    with tempfile.TemporaryDirectory() as folder:
        for name, schema, _ in read_cases():
            said = message(name, schema, Path(folder)) or "NO FAULT FOUND"
            out.append(f"=== {name}\n{schema}" + "".join(f"--- {line}\n" for line in said.split("\n")))
    BAD.write_text("".join(out), encoding="utf-8")


if __name__ == "__main__":
    main()
