"""Holds a document against a schema, and says what is wrong in words: the place, the rule, the value, the nearest name."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from ratite.qapi.machinefile.problems import Near, Path, Place, Problems, shortened


class Validator:
    """A schema, ready for use."""

    def __init__(self, schema: Mapping[str, Any]) -> None:
        from jsonschema import Draft202012Validator
        from jsonschema.validators import extend

        checker = Draft202012Validator.TYPE_CHECKER.redefine("integer", _is_integer)
        kinds: Any = extend(Draft202012Validator, {"allOf": _all_of}, type_checker=checker)  # type: ignore[no-untyped-call]
        self._validator = kinds(schema)

    def check(self, data: Any, place: Callable[[Path, bool], tuple[Place, Path]], problems: Problems) -> None:
        """`place(path, key)` tells where something stands, and as what.  What has a problem already gets no second one."""
        known = {each for error in self._validator.iter_errors(data) for each in _explained(error)}
        for each in sorted(known, key=str):
            where, written = place(each.path, each.key)
            if problems.at(where):
                continue
            value = data
            for step in each.path[:-1] if each.key else each.path:
                value = value[step]
            meant = each.path[-1] if each.key else value
            near = Near(meant, each.names, each.otherwise) if isinstance(meant, str) else None
            problems.add(where, written, each.rule, meant if each.shown else ..., near)


def _is_integer(_checker: Any, value: object) -> bool:
    """JSON Schema takes 2.0 too; QMP doesn't."""
    return isinstance(value, int) and not isinstance(value, bool)


def _all_of(validator: Any, branches: Any, instance: Any, schema: Any) -> Iterator[Any]:
    """allOf; where each branch is for one `type`, only that one is looked at."""
    kind = instance.get("type") if isinstance(instance, dict) else None
    for number, branch in enumerate(branches):
        wanted = branch.get("if", {}).get("properties", {}).get("type", {}).get("const", kind)
        if wanted == kind:
            yield from validator.descend(instance, branch, schema_path=number)


class _Explained(NamedTuple):
    """`key`: the key is meant, not its value; `names`, `otherwise`: as of `Near`; `shown`: the message has the value."""

    path: Path
    rule: str
    key: bool = False
    shown: bool = True
    names: tuple[str, ...] = ()
    otherwise: str = ""


def _explained(error: Any) -> Iterator[_Explained]:
    path = tuple(error.absolute_path)
    rule = error.schema.get("errorMessage", "") if isinstance(error.schema, dict) else ""
    if error.validator == "additionalProperties":
        known = error.schema.get("properties", {})
        title = error.schema.get("title", "this")
        for name in error.instance:
            if name not in known:
                have = "it has" if len(known) < 9 else ""
                yield _Explained((*path, name), f"{title} has no '{shortened(name)}'", True, False, tuple(sorted(known)), have)
    elif error.validator == "required":
        for name in error.validator_value:
            if name not in error.instance:
                yield _Explained(path, f"'{name}' is missing", shown=False)
    elif error.validator == "pattern" and rule and error.parent is None and isinstance(error.instance, str):
        # propertyNames tells the container's path.
        at_key = "propertyNames" in error.absolute_schema_path
        yield _Explained((*path, error.instance) if at_key else path, rule, at_key)
    elif error.validator == "type" and not rule:
        kinds = error.validator_value if isinstance(error.validator_value, list) else [error.validator_value]
        yield _Explained(path, f"must be {' or '.join(_kind(kind) for kind in kinds)}")
    elif error.validator in ("anyOf", "oneOf") and not rule and error.context:
        yield from _best(error)
    else:
        values = error.schema.get("enum") or next(iter(_enums(error.schema)), []) if isinstance(error.schema, dict) else []
        yield _Explained(path, rule or error.message, names=tuple(each for each in values if isinstance(each, str)))


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
