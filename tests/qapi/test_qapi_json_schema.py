"""JSON Schema and visitors hold the same verdict, over the rich schema's commands and mutated arguments."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from jsonschema.validators import extend

from ratite.qapi.errors import QmpError
from ratite.qapi.json_schema import DIALECT, type_schema
from ratite.qapi.resolved import INTEGER_RANGES, QTYPE_VALUES, element_type, holds
from ratite.qapi.schema import compile_schema
from ratite.qapi.tables import Tables

GOOD = compile_schema(str(Path(__file__).parent / "data" / "good" / "main.json"))
VIEWS = [
    Tables(GOOD, facts)
    for facts in (frozenset(), frozenset({"CONFIG_A", "CONFIG_QCOW2"}), frozenset({"CONFIG_B", "CONFIG_NULL"}))
] + [Tables(GOOD, frozenset(), {"Drive": {"net": [{"name": "host", "type": "str"}], "null-co": "Stripes"}})]


def strict_integer(_: object, value: object) -> bool:
    # To JSON Schema 5.0 is an integer, to QMP it isn't: the one thing the two can't agree about.
    return type(value) is int


STRICT_TYPES = Draft202012Validator.TYPE_CHECKER.redefine("integer", strict_integer)
Validator: Any = extend(Draft202012Validator, type_checker=STRICT_TYPES)  # type: ignore[no-untyped-call]
VALIDATORS = [
    {name: Validator(tables.json_schema(name)) for name in tables.commands if tables.commands[name].arg_type}
    for tables in VIEWS
]

JUNK = st.sampled_from(
    [None, True, False, 0, -1, 255, 256, 70000, 1 << 63, 1 << 64, 1.5, "", "raw", "on", "2nd", "zz", [], [1], ["x"]]
) | st.sampled_from([{}, {"kind": "2nd"}, {"kind": "raw", "file": "x"}, {"mode": "on"}])


def arguments(tables: Tables, name: str, depth: int = 0) -> st.SearchStrategy[Any]:
    """Mostly well-typed values of a type."""
    element = element_type(name)
    if element is not None:
        return st.lists(arguments(tables, element, depth + 1), max_size=2)
    if name in INTEGER_RANGES:
        return st.integers(*INTEGER_RANGES[name])
    plain = {"str": st.text(max_size=3), "bool": st.booleans(), "null": st.none(), "any": JUNK}
    plain["number"] = st.integers(-9, 9) | st.sampled_from([0.5, -1e300])
    if name in plain:
        return plain[name]
    if name == "QType":
        return st.sampled_from(QTYPE_VALUES)
    definition = tables.schema.get(name)
    if definition["meta"] == "enum":
        return st.sampled_from([value["name"] for value in definition["members"]])
    if depth > 4:
        return JUNK
    if definition["meta"] == "alternate":
        return st.one_of([arguments(tables, branch["type"], depth + 1) for branch in definition["branches"]])
    return objects(tables, definition, depth)


def objects(tables: Tables, definition: dict[str, Any], depth: int) -> st.SearchStrategy[Any]:
    members = [m for m in tables.schema.members(definition["name"]) if holds(m.get("if"), tables.facts)]
    required = {m["name"]: arguments(tables, m["type"], depth + 1) for m in members if not m.get("optional")}
    optional = {m["name"]: arguments(tables, m["type"], depth + 1) for m in members if m.get("optional")}
    plain = st.fixed_dictionaries(required, optional=optional)
    if definition["meta"] != "union":
        return plain
    branches = {branch["name"]: branch["type"] for branch in definition["branches"]}

    def with_branch(base: dict[str, Any]) -> st.SearchStrategy[Any]:
        branch = branches.get(base[definition["discriminator"]])
        if branch is None or branch == "q_empty" or depth > 4:
            return st.just(base)
        return arguments(tables, branch, depth + 1).map(lambda more: {**base, **more} if isinstance(more, dict) else base)

    return plain.flatmap(with_branch)


def mutate(draw: Any, value: Any) -> Any:
    """One small change somewhere in a value."""
    if isinstance(value, dict) and value and draw(st.integers(0, 3)):
        key = draw(st.sampled_from(sorted(value)))
        action = draw(st.integers(0, 3))
        if action == 0:
            return {name: item for name, item in value.items() if name != key}
        if action == 1:
            return {**value, draw(st.sampled_from(["zz", "file", "kind", "size", "a"])): draw(JUNK)}
        return {**value, key: mutate(draw, value[key])}
    if isinstance(value, list) and value and draw(st.booleans()):
        return [*value[:-1], mutate(draw, value[-1])]
    return draw(JUNK)


@st.composite
def calls(draw: Any) -> tuple[int, str, dict[str, Any]]:
    view = draw(st.integers(0, len(VIEWS) - 1))
    command = draw(st.sampled_from(sorted(VALIDATORS[view])))
    arg_type = VIEWS[view].commands[command].arg_type
    assert arg_type is not None
    value = draw(arguments(VIEWS[view], arg_type))
    for _ in range(draw(st.integers(0, 2))):
        changed = mutate(draw, value)
        value = changed if isinstance(changed, dict) else value
    return view, command, value


@settings(max_examples=600, deadline=None)
@given(calls())
def test_one_verdict(call: tuple[int, str, dict[str, Any]]) -> None:
    view, command, value = call
    try:
        VIEWS[view].commands[command].check(value)
        refusal = ""
    except QmpError as error:
        refusal = error.desc
    valid = VALIDATORS[view][command].is_valid(value)
    assert valid == (not refusal), (command, value, refusal)


@pytest.mark.parametrize("tables", VIEWS)
def test_each_schema_is_a_valid_one(tables: Tables) -> None:
    for name in tables.commands:
        schema = tables.json_schema(name)
        assert schema["$schema"] == DIALECT and schema["title"] == name
        Draft202012Validator.check_schema(schema)


def test_types_of_properties() -> None:
    schema = type_schema(GOOD, frozenset(), "[DriveRef]")
    Draft202012Validator.check_schema(schema)
    assert Validator(schema).is_valid(["x", {"kind": "2nd"}])
    assert not Validator(schema).is_valid([{"kind": "qcow2"}])


def test_a_command_without_arguments_takes_none() -> None:
    schema = VIEWS[0].json_schema("empty")
    assert schema["description"] == "Do nothing."
    assert Validator(schema).is_valid({}) and not Validator(schema).is_valid({"a": 1})


def test_json_schema_of_what_the_view_lacks() -> None:
    with pytest.raises(KeyError):
        VIEWS[0].json_schema("query-strings")
