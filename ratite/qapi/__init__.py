"""The QAPI floor: schema compiler, run-time tables, wire grammar, JSON Schema.

A daemon needs `tables` and `wire` at run time; the compiler's stages (lexer, parser, docs, expressions,
schema) load when a schema file is compiled.  So this facade imports a module when a name of it is
first asked for, and importing one module of the package costs no other.
"""

from __future__ import annotations

from types import MappingProxyType

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ratite.qapi.errors import CommandNotFound as CommandNotFound
    from ratite.qapi.errors import DeviceNotActive as DeviceNotActive
    from ratite.qapi.errors import DeviceNotFound as DeviceNotFound
    from ratite.qapi.errors import GenericError as GenericError
    from ratite.qapi.errors import QmpError as QmpError
    from ratite.qapi.errors import SchemaError as SchemaError
    from ratite.qapi.json_schema import type_schema as type_schema
    from ratite.qapi.resolved import ResolvedSchema as ResolvedSchema
    from ratite.qapi.resolved import holds as holds
    from ratite.qapi.schema import compile_schema as compile_schema
    from ratite.qapi.tables import Command as Command
    from ratite.qapi.tables import Event as Event
    from ratite.qapi.tables import Tables as Tables
    from ratite.qapi.wire import JsonStream as JsonStream
    from ratite.qapi.wire import encode as encode

__all__ = [
    "Command",
    "CommandNotFound",
    "DeviceNotActive",
    "DeviceNotFound",
    "Event",
    "GenericError",
    "JsonStream",
    "QmpError",
    "ResolvedSchema",
    "SchemaError",
    "Tables",
    "compile_schema",
    "encode",
    "holds",
    "type_schema",
]

_HOMES = MappingProxyType(
    {
        "Command": "tables",
        "CommandNotFound": "errors",
        "DeviceNotActive": "errors",
        "DeviceNotFound": "errors",
        "Event": "tables",
        "GenericError": "errors",
        "JsonStream": "wire",
        "QmpError": "errors",
        "ResolvedSchema": "resolved",
        "SchemaError": "errors",
        "Tables": "tables",
        "compile_schema": "schema",
        "encode": "wire",
        "holds": "resolved",
        "type_schema": "json_schema",
    }
)


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'ratite.qapi' has no attribute {name!r}")
    from importlib import import_module

    value: object = getattr(import_module(f"ratite.qapi.{_HOMES[name]}"), name)
    return value
