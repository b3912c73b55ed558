"""Holds a document against a schema, and says what is wrong in words: the place, the rule, the value, the nearest name."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from ratite.qapi.machinefile.problems import Path, Place, Problems, nearest


class Validator:
    """A schema, ready for use."""

    def __init__(self, schema: Mapping[str, Any]) -> None:
        from jsonschema import Draft202012Validator
        from jsonschema.validators import extend

        kinds: Any = extend(Draft202012Validator, {"allOf": _all_of})  # type: ignore[no-untyped-call]
        self._validator = kinds(schema)

    def check(self, data: Any, place: Callable[[Path, bool], tuple[Place, Path]], problems: Problems) -> None:
        """`place(path, key)` tells where something stands, and as what.  What has a problem already gets no second one."""
        known = {each for error in self._validator.iter_errors(data) for each in _explained(error)}
        for path, key, rule, name, hint in sorted(known, key=str):
            where, written = place(path, key)
            if problems.at(where):
                continue
            value = data
            for step in path[:-1] if key else path:
                value = value[step]
            problems.add(where, written, rule, ... if hint is None else name if key else value, hint or "")


def _all_of(validator: Any, branches: Any, instance: Any, schema: Any) -> Iterator[Any]:
    """allOf; where each branch is for one `type`, only that one is looked at."""
    kind = instance.get("type") if isinstance(instance, dict) else None
    for number, branch in enumerate(branches):
        wanted = branch.get("if", {}).get("properties", {}).get("type", {}).get("const", kind)
        if wanted == kind:
            yield from validator.descend(instance, branch, schema_path=number)


# (path, whether its key is meant, rule, the key's name, what follows the value; None: no value in the message)
_Explained = tuple[Path, bool, str, str, str | None]


def _explained(error: Any) -> Iterator[_Explained]:
    path = tuple(error.absolute_path)
    rule = error.schema.get("errorMessage", "") if isinstance(error.schema, dict) else ""
    if error.validator == "additionalProperties":
        known = error.schema.get("properties", {})
        title = error.schema.get("title", "this")
        for name in error.instance:
            if name not in known:
                have = nearest(name, known) or (f" (it has: {', '.join(sorted(known))})" if len(known) < 9 else "")
                yield (*path, name), True, f"{title} has no '{name}'{have}", name, None
    elif error.validator == "required":
        for name in error.validator_value:
            if name not in error.instance:
                yield path, False, f"'{name}' is missing", "", None
    elif error.validator == "pattern" and rule and error.parent is None and isinstance(error.instance, str):
        # propertyNames tells the container's path.
        at_key = "propertyNames" in error.absolute_schema_path
        yield ((*path, error.instance) if at_key else path), at_key, rule, error.instance if at_key else "", ""
    elif error.validator == "type" and not rule:
        kinds = error.validator_value if isinstance(error.validator_value, list) else [error.validator_value]
        yield path, False, f"must be {' or '.join(_kind(kind) for kind in kinds)}", "", ""
    elif error.validator in ("anyOf", "oneOf") and not rule and error.context:
        yield from _best(error)
    else:
        values = error.schema.get("enum") or next(iter(_enums(error.schema)), []) if isinstance(error.schema, dict) else []
        hint = (
            nearest(error.instance, [each for each in values if isinstance(each, str)])
            if isinstance(error.instance, str)
            else ""
        )
        yield path, False, rule or error.message, "", hint


def _best(error: Any) -> Iterator[_Explained]:
    """The faults of the branch that got furthest."""
    from jsonschema.exceptions import relevance

    deepest = max(error.context, key=lambda each: (len(each.absolute_path), relevance(each)))
    branch = deepest.schema_path[0]
    for each in error.context:
        if each.schema_path[0] == branch:
            yield from _explained(each)


def _enums(schema: Mapping[str, Any]) -> Iterator[list[Any]]:
    for branch in schema.get("anyOf", ()):
        if "enum" in branch:
            yield branch["enum"]


def _kind(name: str) -> str:
    return {"object": "a mapping", "array": "a list", "string": "a text", "boolean": "true or false"}.get(name, f"a {name}")
