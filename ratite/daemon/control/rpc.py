"""JSON-RPC 2.0 without IO: texts in, answers out.

A text is one request or a batch.  `Calls.take(text)` gives what to do; each `Call` is answered by a dict, or by nothing if
it is a notification.  Params are objects, checked by the schema's visitors.  Specification: jsonrpc.org/specification.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from ratite.daemon.control import plainjson
from ratite.qapi.errors import QmpError
from ratite.qapi.tables import Command

PARSE_ERROR = -32700
INVALID_REQUEST = -32600
METHOD_NOT_FOUND = -32601
INVALID_PARAMS = -32602
INTERNAL_ERROR = -32603
CANCELLED = -32800
QMP_ERROR = -32000
NO_INSTANCE = -32001
INSTANCE_EXISTS = -32002
LIMIT_EXCEEDED = -32003
NOT_PERMITTED = -32004
INSTANCE_GONE = -32005
NOT_FOUND = -32006
BAD_MACHINE_FILE = -32007

ERRORS: Mapping[int, str] = MappingProxyType(
    {
        PARSE_ERROR: "the text is no JSON, or nested too deep",
        INVALID_REQUEST: "it is no request of JSON-RPC 2.0",
        METHOD_NOT_FOUND: "there is no such method",
        INVALID_PARAMS: "a parameter is missing, unexpected or of the wrong type",
        INTERNAL_ERROR: "a fault of ratite's own; its log says more",
        CANCELLED: "request-cancel has cancelled it",
        QMP_ERROR: "a QMP command was refused; data has its class and desc",
        NO_INSTANCE: "there is no instance of this name",
        INSTANCE_EXISTS: "there is an instance of this name",
        LIMIT_EXCEEDED: "it would exceed a limit",
        NOT_PERMITTED: "it is not permitted, or not over this kind of connection",
        INSTANCE_GONE: "the instance ended meanwhile, or could not start",
        NOT_FOUND: "this connection has no such subscription or console",
        BAD_MACHINE_FILE: "the machine file is wrong; data lists where and why",
    }
)

BATCH_LIMIT = 1000

_Id = str | int | float | None


class RpcError(Exception):
    """A request is refused."""

    def __init__(self, code: int, message: str, data: object = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.data = data

    def to_dict(self) -> dict[str, Any]:
        """The error member of an answer."""
        error: dict[str, Any] = {"code": self.code, "message": self.message}
        if self.data is not None:
            error["data"] = self.data
        return error


_encode = json.JSONEncoder(separators=(",", ":")).encode


def encode(value: object) -> str:
    """JSON text in one line, ASCII."""
    return _encode(value)


def parse(text: str) -> object:
    """A JSON value.  RpcError PARSE_ERROR."""
    try:
        return plainjson.decode(text)
    except RecursionError:
        raise RpcError(PARSE_ERROR, "parse error: nested too deep") from None
    except ValueError as error:
        raise RpcError(PARSE_ERROR, f"parse error: {error}") from None


class Call:
    """One request: `error` is set if it can't be executed; `id` is to be echoed unless `notification`."""

    __slots__ = ("error", "id", "method", "notification", "params")

    def __init__(self, message: object) -> None:
        self.id: _Id = None
        self.method = ""
        self.params: dict[str, Any] = {}
        self.notification = False
        self.error: RpcError | None = None
        try:
            self._take(message)
        except RpcError as error:
            self.error = error

    def _take(self, message: object) -> None:
        if type(message) is not dict:
            raise RpcError(INVALID_REQUEST, "a request must be an object")
        identity = message.get("id")
        if identity is not None and type(identity) not in (str, int, float):
            raise RpcError(INVALID_REQUEST, "'id' must be a string, a number or null")
        self.id = identity
        method = message.get("method")
        if message.get("jsonrpc") != "2.0" or type(method) is not str:
            raise RpcError(INVALID_REQUEST, "a request must have 'jsonrpc' with value '2.0', and 'method', a string")
        self.method = method
        self.notification = "id" not in message
        params = message.get("params", {})
        if type(params) is not dict:
            raise RpcError(INVALID_PARAMS, "'params' must be an object: parameters are given by name")
        self.params = params

    def result(self, value: object) -> dict[str, Any]:
        """The answer that brings a value."""
        return {"jsonrpc": "2.0", "id": self.id, "result": value}

    def refusal(self, error: RpcError) -> dict[str, Any]:
        """The answer that brings an error."""
        return {"jsonrpc": "2.0", "id": self.id, "error": error.to_dict()}


def take(text: str) -> tuple[list[Call], bool]:
    """The calls of a text, and whether it is a batch.  RpcError if there is none."""
    message = parse(text)
    if type(message) is not list:
        return [Call(message)], False
    if not message:
        raise RpcError(INVALID_REQUEST, "a batch must not be empty")
    if len(message) > BATCH_LIMIT:
        raise RpcError(INVALID_REQUEST, f"a batch must be of {BATCH_LIMIT} requests at most, not {len(message)}")
    return [Call(each) for each in message], True


def check(command: Command, params: dict[str, Any]) -> dict[str, Any]:
    """The checked params.  RpcError INVALID_PARAMS."""
    try:
        return command.check(params)
    except QmpError as error:
        raise RpcError(INVALID_PARAMS, error.desc) from None


def notification(method: str, params: Mapping[str, Any]) -> str:
    """The text of a notification to a client."""
    return _encode({"jsonrpc": "2.0", "method": method, "params": params})
