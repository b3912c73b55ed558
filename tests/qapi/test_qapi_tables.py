"""The tables of a view, unions extended at run time, and what starting costs."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ratite.qapi.errors import CommandNotFound, DeviceNotActive, DeviceNotFound, GenericError, QmpError, SchemaError
from ratite.qapi.resolved import ResolvedSchema, holds
from ratite.qapi.schema import compile_schema
from ratite.qapi.tables import Tables

GOOD = compile_schema(str(Path(__file__).parent / "data" / "good" / "main.json"))


def test_commands_of_a_view() -> None:
    bare, full = Tables(GOOD), Tables(GOOD, frozenset({"CONFIG_A", "CONFIG_B", "CONFIG_ODD"}))
    assert "query-strings" not in bare.commands and "query-strings" in full.commands
    assert "NOTHING_HAPPENED" in bare.events and "NOTHING_HAPPENED" not in full.events
    get_it = full.commands["get_it"]
    assert (get_it.allow_oob, get_it.allow_preconfig, get_it.coroutine) == (True, True, False)
    assert get_it.features == ("deprecated", "odd") and bare.commands["get_it"].features == ("deprecated",)
    assert full.commands["drive-add"].coroutine and not full.commands["plug"].gen
    assert not full.commands["query-strings"].success_response and get_it.success_response
    assert full.commands["empty"].doc["text"] == "Do nothing."
    assert full.events["SOMETHING_HAPPENED"].doc["since"] == "1.1"
    with pytest.raises(TypeError):
        full.commands["new"] = get_it  # type: ignore[index]


@pytest.mark.parametrize(
    "condition, facts, verdict",
    [
        (None, "", True),
        ("A", "A", True),
        ("A", "B", False),
        ({"not": "A"}, "", True),
        ({"all": ["A", "B"]}, "A", False),
        ({"any": ["A", "B"]}, "B", True),
        ({"any": [{"all": ["A", {"not": "B"}]}, "C"]}, "AB", False),
    ],
)
def test_conditions(condition: object, facts: str, verdict: bool) -> None:
    assert holds(condition, frozenset(facts)) is verdict


@pytest.mark.parametrize("condition", [1, {}, {"all": [], "any": []}, {"xor": "A"}])
def test_bad_conditions(condition: object) -> None:
    with pytest.raises(ValueError, match="a condition"):
        holds(condition, frozenset())


def test_introspection_of_a_view_is_made_once() -> None:
    tables = Tables(GOOD, frozenset({"CONFIG_A", "CONFIG_QCOW2"}))
    golden = json.loads((Path(__file__).parent / "data" / "good.introspect.json").read_text())
    assert tables.introspect() == golden
    assert tables.introspect() is tables.introspect()
    assert tables.introspect_bytes() is tables.introspect_bytes()
    assert json.loads(tables.introspect_bytes()) == golden
    assert b"\n" not in tables.introspect_bytes()


def test_numbers_do_not_depend_on_the_view() -> None:
    facts = [frozenset[str](), frozenset({"CONFIG_A"}), frozenset({"CONFIG_A", "CONFIG_B", "CONFIG_NULL"})]
    shapes: dict[str, str] = {}
    for view in facts:
        for entry in Tables(GOOD, view).introspect():
            kind = entry["meta-type"]
            assert shapes.setdefault(entry["name"], kind) == kind


def test_qapi_type() -> None:
    tables = Tables(GOOD)
    assert tables.qapi_type("int8") == {"meta": "builtin", "name": "int8"}
    assert tables.qapi_type("[Mode]") == {"meta": "array", "name": "[Mode]", "element": "Mode"}
    assert tables.qapi_type("Drive")["discriminator"] == "kind"
    for name in ("Nope", "[Nope]", "empty"):
        with pytest.raises(KeyError):
            tables.qapi_type(name)


# ---------------------------------------------------------------- unions that grow

MEMBERS: list[dict[str, Any]] = [
    {"name": "base-address", "type": "uint64"},
    {"name": "irq", "type": "str", "optional": True, "features": [{"name": "unstable"}]},
    {"name": "only-a", "type": "bool", "optional": True, "if": "CONFIG_A"},
]


def test_a_branch_for_a_registered_type() -> None:
    tables = Tables(GOOD, extra={"Drive": {"ns16550": MEMBERS, "null-co": "Stripes"}})
    check = tables.commands["drive-add"].check
    assert check({"kind": "ns16550", "base-address": 1}) == {"kind": "ns16550", "base-address": 1}
    assert check({"kind": "raw", "file": {"kind": "ns16550", "base-address": 1}})
    with pytest.raises(QmpError, match="Parameter 'base-address' is missing"):
        check({"kind": "ns16550"})
    with pytest.raises(QmpError, match="Parameter 'only-a' is unexpected"):
        check({"kind": "ns16550", "base-address": 1, "only-a": True})
    schema = tables.json_schema("drive-add")
    assert "ns16550" in schema["properties"]["kind"]["enum"]
    entries = {entry["name"]: entry for entry in tables.introspect()}
    drive = entries[entries["drive-add"]["arg-type"]]
    (branch,) = [variant["type"] for variant in drive["variants"] if variant["case"] == "ns16550"]
    assert entries[branch]["members"] == [
        {"name": "base-address", "type": "int"},
        {"name": "irq", "type": "str", "default": None, "features": ["unstable"]},
    ]
    kinds = entries[drive["members"][0]["type"]]
    assert kinds["values"][-1] == "ns16550" == kinds["members"][-1]["name"]


def test_growing_leaves_the_original_alone() -> None:
    before = json.dumps(GOOD.to_json())
    grown = GOOD.with_branches("Drive", {"a": [], "b": []}).with_branches("Drive", {"c": []})
    assert json.dumps(GOOD.to_json()) == before
    cases = [branch["name"] for branch in grown.get("Drive")["branches"]]
    assert cases[-3:] == ["a", "b", "c"]
    assert ResolvedSchema.from_json(grown.to_json()).get("Drive") == grown.get("Drive")


@pytest.mark.parametrize(
    "union, branches, complaint",
    [
        ("Nope", {}, "needs the name of a union, not 'Nope'"),
        ("RawDrive", {}, "needs the name of a union, not 'RawDrive'"),
        ("Drive", {"raw": []}, "must not get a second branch 'raw'"),
        ("Drive", {"x": "Mode"}, "must be an object type, not 'Mode'"),
        ("Drive", {"x": [{"name": "kind", "type": "str"}]}, "member 'kind' must be there only once"),
        ("Drive", {"x": [{"name": "a", "type": "str"}] * 2}, "member 'a' must be there only once"),
        ("Drive", {"x": [{"name": "a", "type": "[Nope]"}]}, r"must have a known type, not '\[Nope\]'"),
    ],
)
def test_branches_that_are_refused(union: str, branches: dict[str, object], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        GOOD.with_branches(union, branches)  # type: ignore[arg-type]


# ---------------------------------------------------------------- errors, and the cost of a start


def test_errors() -> None:
    assert GenericError("x").to_dict() == {"class": "GenericError", "desc": "x"}
    for kind in (CommandNotFound, DeviceNotFound, DeviceNotActive):
        assert kind("x").to_dict() == {"class": kind.__name__, "desc": "x"}
    assert QmpError("x", "KVMMissingCap").error_class == "KVMMissingCap"
    assert str(SchemaError("what", "f.json", 3, 4, definition="enum 'E'")) == "f.json:3:4: In enum 'E': what"


def test_the_start_path_loads_no_compiler_and_nothing_heavy() -> None:
    code = (
        "import sys; import ratite.qapi, ratite.qapi.tables, ratite.qapi.wire;"
        "print(*(name for name in sys.modules if name.startswith('ratite.qapi.')));"
        "print(*({'typing', 'dataclasses', 'inspect', 'asyncio', 'pathlib', 'jsonschema'} & set(sys.modules)))"
    )
    out = subprocess.run(
        [sys.executable, "-S", "-c", code], capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2]
    )
    loaded, heavy = out.stdout.splitlines()
    wanted = ("errors", "resolved", "tables", "views", "visitor", "wire", "wire_out")
    assert set(loaded.split()) == {f"ratite.qapi.{name}" for name in wanted}
    assert heavy == ""


def test_the_facade_is_sorted_and_complete() -> None:
    import ratite.qapi

    assert list(ratite.qapi.__all__) == sorted(ratite.qapi.__all__) == sorted(ratite.qapi._HOMES)
    for name in ratite.qapi.__all__:
        assert getattr(ratite.qapi, name).__name__ == name
    with pytest.raises(AttributeError, match="has no attribute 'nope'"):
        ratite.qapi.nope  # noqa: B018
