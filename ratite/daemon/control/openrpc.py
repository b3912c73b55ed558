"""The OpenRPC document: what `rpc.discover` answers, made from the control plane's resolved schema.

OpenRPC 1.3.2 (spec.open-rpc.org); types are JSON Schema under components.schemas.  Notifications that the server sends
have no place in OpenRPC: they stand as `x-notifications`, {name, summary, params} each.
"""

from __future__ import annotations

from typing import Any

from ratite import __version__
from ratite.daemon.control.rpc import ERRORS
from ratite.qapi.json_schema import type_schema
from ratite.qapi.resolved import ResolvedSchema

OPENRPC = "1.3.2"

Json = dict[str, Any]


def notification_name(event: str) -> str:
    """The method name of a notification: the event's, as methods are written."""
    return event.lower().replace("_", "-")


def document(schema: ResolvedSchema) -> Json:
    """The whole document."""
    maker = _Maker(schema)
    methods = [maker.method(each) for each in schema.definitions if each["meta"] == "command"]
    methods.append(
        {
            "name": "rpc.discover", "summary": "This document.", "params": [],
            "result": {"name": "document", "schema": {"type": "object"}},
        }
    )  # fmt: skip
    notifications = [maker.notification(each) for each in schema.definitions if each["meta"] == "event"]
    return {
        "openrpc": OPENRPC,
        "info": {"title": "ratite control plane", "version": __version__},
        "methods": methods,
        "x-notifications": notifications,
        "components": {
            "schemas": maker.types(),
            "errors": {f"E{-code}": {"code": code, "message": text} for code, text in ERRORS.items()},
        },
    }


class _Maker:
    def __init__(self, schema: ResolvedSchema) -> None:
        self._schema = schema
        self._types: dict[str, Json] = {}

    def method(self, definition: Json) -> Json:
        doc = definition.get("doc", {})
        result: Json = {"name": "result", "schema": {"type": "object"}}
        if "ret-type" in definition:
            result["schema"] = self._reference(definition["ret-type"])
        if "returns" in doc:
            result["description"] = doc["returns"]
        made: Json = {"name": definition["name"], "paramStructure": "by-name"}
        if doc.get("text"):
            made["summary"] = doc["text"]
        return {**made, "params": self._params(definition), "result": result}

    def notification(self, definition: Json) -> Json:
        summary = definition.get("doc", {}).get("text", "")
        return {"name": notification_name(definition["name"]), "summary": summary, "params": self._params(definition)}

    def _params(self, definition: Json) -> list[Json]:
        if "arg-type" not in definition:
            return []
        texts = definition.get("doc", {}).get("members", {})
        params = []
        for member in self._schema.members(definition["arg-type"]):
            param: Json = {"name": member["name"], "schema": self._reference(member["type"])}
            if member["name"] in texts:
                param["description"] = texts[member["name"]]
            param["required"] = not member.get("optional", False)
            params.append(param)
        return params

    def types(self) -> Json:
        """Every type that was referred to."""
        return dict(sorted(self._types.items()))

    def _reference(self, name: str) -> Json:
        made = type_schema(self._schema, frozenset(), name)
        made.pop("$schema")
        for each, body in made.pop("$defs", {}).items():
            self._types[each] = _moved(body)
        moved: Json = _moved(made)
        return moved


def _moved(value: Any) -> Any:
    """A schema whose references point to where OpenRPC keeps types."""
    if isinstance(value, dict):
        return {
            key: item.replace("#/$defs/", "#/components/schemas/") if key == "$ref" else _moved(item)
            for key, item in value.items()
        }
    return [_moved(item) for item in value] if isinstance(value, list) else value
