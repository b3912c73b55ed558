"""python -m ratite.qapi: the schema compiler as a tool."""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any

from ratite.qapi.errors import SchemaError
from ratite.qapi.schema import compile_schema
from ratite.qapi.tables import Tables

_DESCRIPTION = """\
Check a QAPI schema file, and print what it says.

Works for any schema in the QAPI language: the main file is given, the files it includes are found
relative to the file that includes them.  Without an output option the schema is only checked.
A fault is printed as 'file:line: In command 'x': what is wrong' and the exit status is 1.
"""
_EPILOG = """\
Conditions are decided here, not when the schema is read: a definition under 'if': 'CONFIG_X' is
shown only with --if CONFIG_X.  --dump shows everything, with the conditions as data.

examples:
  python -m ratite.qapi schema.json                          check only
  python -m ratite.qapi schema.json --dump > resolved.json   what a daemon loads at its start
  python -m ratite.qapi schema.json --introspect --if CONFIG_KVM CONFIG_TCG
  python -m ratite.qapi schema.json --json-schema --command object-add
  python -m ratite.qapi qemu/qapi/qapi-schema.json --no-doc-style --introspect
"""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m ratite.qapi",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("schema", metavar="SCHEMA", help="the schema's main file")
    output = parser.add_mutually_exclusive_group()
    output.add_argument("--dump", action="store_true", help="print the resolved schema (JSON, the form daemons load)")
    output.add_argument("--introspect", action="store_true", help="print what query-qmp-schema returns")
    output.add_argument(
        "--json-schema",
        action="store_true",
        help="print an object with the JSON Schema (2020-12) of each command's arguments",
    )
    parser.add_argument(
        "--if", dest="facts", metavar="NAME", nargs="+", action="extend", default=[], help="conditions that are true"
    )
    parser.add_argument("--command", metavar="NAME", help="with --json-schema: this command's schema alone")
    parser.add_argument("--indent", metavar="N", type=int, default=2, help="indentation, 0 for one line (default 2)")
    parser.add_argument(
        "--no-doc-style",
        action="store_true",
        help="accept documentation comments with long lines, single spaces and Note or Example sections",
    )
    return parser


def _output(options: argparse.Namespace) -> Any:
    resolved = compile_schema(options.schema, doc_style=not options.no_doc_style)
    if options.dump:
        return resolved.to_json()
    tables = Tables(resolved, frozenset(options.facts))
    if options.introspect:
        return tables.introspect()
    if not options.json_schema:
        return None
    if options.command is None:
        return {name: tables.json_schema(name) for name in tables.commands}
    if options.command not in tables.commands:
        raise SchemaError(f"the schema has no command '{options.command}' under these conditions", options.schema)
    return tables.json_schema(options.command)


def main(argv: list[str] | None = None) -> int:
    """Run the tool; the exit status."""
    options = _parser().parse_args(argv)
    try:
        result = _output(options)
    except SchemaError as error:
        print(error, file=sys.stderr)
        return 1
    if result is not None:
        json.dump(result, sys.stdout, indent=options.indent or None)
        print()
    return 0


if __name__ == "__main__":
    sys.exit(main())
