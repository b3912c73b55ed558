"""Machine files: a document that describes a machine, into the QMP commands that make it, and back.

Pure but for `files`, which knows where documents and declarations are.  YAML and JSON Schema libraries are imported when a
file is compiled, so a daemon that compiles none has neither.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ratite.qapi.machinefile import files as files
    from ratite.qapi.machinefile.compile import Compiled as Compiled
    from ratite.qapi.machinefile.compile import Compiler as Compiler
    from ratite.qapi.machinefile.compile import summary_of as summary_of
    from ratite.qapi.machinefile.declarations import Declarations as Declarations
    from ratite.qapi.machinefile.dtb import FromDtb as FromDtb
    from ratite.qapi.machinefile.dtb import from_dtb as from_dtb
    from ratite.qapi.machinefile.dump import dump_document as dump_document
    from ratite.qapi.machinefile.dump import render as render
    from ratite.qapi.machinefile.expand import Read as Read
    from ratite.qapi.machinefile.problems import MachineFileError as MachineFileError
    from ratite.qapi.machinefile.problems import Problem as Problem

__all__ = [
    "Compiled",
    "Compiler",
    "Declarations",
    "FromDtb",
    "MachineFileError",
    "Problem",
    "Read",
    "compile_machine",
    "compile_text",
    "dump_document",
    "files",
    "from_dtb",
    "json_schema",
    "render",
    "summary_of",
]

_HOMES = MappingProxyType(
    {
        "Compiled": "compile",
        "Compiler": "compile",
        "Declarations": "declarations",
        "FromDtb": "dtb",
        "MachineFileError": "problems",
        "Problem": "problems",
        "Read": "expand",
        "dump_document": "dump",
        "from_dtb": "dtb",
        "render": "dump",
        "summary_of": "compile",
    }
)


def __getattr__(name: str) -> object:
    from importlib import import_module

    if name in _HOMES:
        value: object = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
        return value
    if name == "files":
        return import_module(f"{__name__}.files")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def compile_machine(name: str, arguments: Mapping[str, Any] | None, declarations: Declarations, read: Read) -> Compiled:
    """The machine of a file or profile; MachineFileError.  For many files make one `Compiler`."""
    from ratite.qapi.machinefile.compile import Compiler

    return Compiler(declarations).compile_named(name, arguments, read)


def compile_text(
    text: str,
    arguments: Mapping[str, Any] | None,
    declarations: Declarations,
    read: Read | None = None,
    name: str = "<text>",
) -> Compiled:
    """The machine of a document; MachineFileError.  Without `read` it can include no files and no profiles."""
    from ratite.qapi.machinefile.compile import Compiler

    return Compiler(declarations).compile_text(text, arguments, read, name)


def json_schema(declarations: Declarations) -> dict[str, Any]:
    """The JSON Schema of machine files, for editors."""
    from ratite.qapi.machinefile.schema import machine_schema

    return machine_schema(declarations)
