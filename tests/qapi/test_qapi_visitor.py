"""Argument visitors: what is accepted, and QEMU's words for what is not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ratite.qapi.errors import QmpError
from ratite.qapi.schema import compile_schema
from ratite.qapi.tables import Tables

GOOD = compile_schema(str(Path(__file__).parent / "data" / "good" / "main.json"))
NEEDED = {"s": "x", "n": 1, "i": 0}


@pytest.fixture(scope="module")
def tables() -> Tables:
    return Tables(GOOD, frozenset({"CONFIG_A", "CONFIG_QCOW2"}))


def refusal(tables: Tables, command: str, arguments: dict[str, Any]) -> str:
    with pytest.raises(QmpError) as caught:
        tables.commands[command].check(arguments)
    assert caught.value.error_class == "GenericError"
    return caught.value.desc


@pytest.mark.parametrize(
    "command, arguments",
    [
        ("empty", {}),
        ("all-builtins", NEEDED),
        ("all-builtins", {**NEEDED, "i8": -128, "u8": 255, "i64": -(1 << 63), "u64": (1 << 64) - 1, "sz": 0}),
        ("all-builtins", {**NEEDED, "b": False, "x": {"any": [None]}, "nul": None, "strings": [], "bytes": [0, 255]}),
        ("all-builtins", {**NEEDED, "qtype": "qdict", "n": 1.5}),
        ("drive-add", {"kind": "2nd"}),
        ("drive-add", {"kind": "raw", "node": "n", "file": "ref"}),
        ("drive-add", {"kind": "raw", "file": {"kind": "raw", "file": "deep", "size": 1}}),
        ("drive-add", {"kind": "qcow2", "file": "f", "backing": None, "modes": ["on", "auto"]}),
        ("drive-add", {"kind": "qcow2", "file": "f", "backing": [1, -2]}),
        ("drive-add", {"kind": "qcow2", "file": "f", "backing": "off"}),
        ("drive-add", {"kind": "multi", "how": "on", "drives": ["a", {"kind": "2nd"}]}),
        ("drive-add", {"kind": "multi", "how": "off"}),
        ("plug", {"driver": "d", "id": "i", "anything": [1, {}], "bus": 5}),
        ("get_it", {"a": "Old_Value"}),
        ("conditional", {"a": True, "b": {"mode": "on"}, "c": 1.5}),
    ],
)
def test_accepted(tables: Tables, command: str, arguments: dict[str, Any]) -> None:
    checked = tables.commands[command].check(arguments)
    assert checked == arguments
    assert checked is not arguments


def test_a_number_becomes_a_double(tables: Tables) -> None:
    assert type(tables.commands["all-builtins"].check(NEEDED)["n"]) is float


@pytest.mark.parametrize(
    "command, arguments, desc",
    [
        ("empty", {"bogus": 1}, "Parameter 'bogus' is unexpected"),
        ("empty", {"b": 1, "a": 1}, "Parameter 'b' is unexpected"),
        ("all-builtins", {}, "Parameter 's' is missing"),
        ("all-builtins", {"s": "x", "i": 1}, "Parameter 'n' is missing"),
        ("all-builtins", {"zz": 1}, "Parameter 's' is missing"),
        ("all-builtins", {**NEEDED, "zz": 1}, "Parameter 'zz' is unexpected"),
        ("all-builtins", {**NEEDED, "s": 1, "zz": 1}, "Invalid parameter type for 's', expected: string"),
        ("all-builtins", {**NEEDED, "s": None}, "Invalid parameter type for 's', expected: string"),
        ("all-builtins", {**NEEDED, "n": "1"}, "Invalid parameter type for 'n', expected: number"),
        ("all-builtins", {**NEEDED, "n": 10**400}, "Invalid parameter type for 'n', expected: number"),
        ("all-builtins", {**NEEDED, "n": True}, "Invalid parameter type for 'n', expected: number"),
        ("all-builtins", {**NEEDED, "i": "x"}, "Invalid parameter type for 'i', expected: integer"),
        ("all-builtins", {**NEEDED, "i": 1.0}, "Invalid parameter type for 'i', expected: integer"),
        ("all-builtins", {**NEEDED, "i": True}, "Invalid parameter type for 'i', expected: integer"),
        ("all-builtins", {**NEEDED, "i": 1 << 63}, "Invalid parameter type for 'i', expected: integer"),
        ("all-builtins", {**NEEDED, "i8": "x"}, "Invalid parameter type for 'i8', expected: integer"),
        ("all-builtins", {**NEEDED, "i8": 128}, "Parameter 'i8' expects int8_t"),
        ("all-builtins", {**NEEDED, "u8": 300}, "Parameter 'u8' expects uint8_t"),
        ("all-builtins", {**NEEDED, "u8": -1}, "Parameter 'u8' expects uint8_t"),
        ("all-builtins", {**NEEDED, "u8": "x"}, "Parameter 'u8' expects uint64"),
        ("all-builtins", {**NEEDED, "u16": 1.5}, "Parameter 'u16' expects uint64"),
        ("all-builtins", {**NEEDED, "u32": 1 << 32}, "Parameter 'u32' expects uint32_t"),
        ("all-builtins", {**NEEDED, "u64": "1"}, "Parameter 'u64' expects uint64"),
        ("all-builtins", {**NEEDED, "u64": -1}, "Parameter 'u64' expects uint64"),
        ("all-builtins", {**NEEDED, "sz": "1G"}, "Parameter 'sz' expects uint64"),
        ("all-builtins", {**NEEDED, "b": 1}, "Invalid parameter type for 'b', expected: boolean"),
        ("all-builtins", {**NEEDED, "nul": 0}, "Invalid parameter type for 'nul', expected: null"),
        ("all-builtins", {**NEEDED, "strings": "x"}, "Invalid parameter type for 'strings', expected: array"),
        ("all-builtins", {**NEEDED, "strings": ["a", 1]}, "Invalid parameter type for 'strings[1]', expected: string"),
        ("all-builtins", {**NEEDED, "bytes": [0, "a"]}, "Parameter 'bytes[1]' expects uint64"),
        ("all-builtins", {**NEEDED, "bytes": [0, 256]}, "Parameter 'null' expects uint8_t"),
        ("all-builtins", {**NEEDED, "qtype": "zz"}, "Parameter 'qtype' does not accept value 'zz'"),
        ("all-builtins", {**NEEDED, "qtype": 1}, "Invalid parameter type for 'qtype', expected: string"),
        ("drive-add", {}, "Parameter 'kind' is missing"),
        ("drive-add", {"kind": "nope"}, "Parameter 'kind' does not accept value 'nope'"),
        ("drive-add", {"kind": "null-co"}, "Parameter 'kind' does not accept value 'null-co'"),
        ("drive-add", {"kind": "2nd", "file": "f"}, "Parameter 'file' is unexpected"),
        ("drive-add", {"kind": "raw"}, "Parameter 'file' is missing"),
        ("drive-add", {"kind": "raw", "file": 5}, "Invalid parameter type for 'file', expected: DriveRef"),
        (
            "drive-add",
            {"kind": "raw", "file": {"kind": "raw", "file": None}},
            "Invalid parameter type for 'file', expected: DriveRef",
        ),
        ("drive-add", {"kind": "raw", "file": {"kind": "raw"}}, "Parameter 'file.file' is missing"),
        (
            "drive-add",
            {"kind": "raw", "file": {"kind": "raw", "file": "x", "size": True}},
            "Parameter 'file.size' expects uint64",
        ),
        ("drive-add", {"kind": "raw", "file": {"kind": "no"}}, "Parameter 'kind' does not accept value 'no'"),
        (
            "drive-add",
            {"kind": "qcow2", "file": "f", "modes": ["on", "zz"]},
            "Parameter 'null' does not accept value 'zz'",
        ),
        ("drive-add", {"kind": "qcow2", "file": "f", "backing": 70000}, "Parameter 'backing' expects uint16_t"),
        ("drive-add", {"kind": "qcow2", "file": "f", "backing": 1.5}, "Parameter 'backing' expects uint64"),
        (
            "drive-add",
            {"kind": "qcow2", "file": "f", "backing": [1, "a"]},
            "Invalid parameter type for 'backing[1]', expected: integer",
        ),
        (
            "drive-add",
            {"kind": "qcow2", "file": "f", "backing": True},
            "Invalid parameter type for 'backing', expected: DriveOrNull",
        ),
        (
            "drive-add",
            {"kind": "multi", "how": "on", "drives": ["a", {"kind": "2nd", "z": 1}]},
            "Parameter 'drives[1].z' is unexpected",
        ),
        (
            "drive-add",
            {"kind": "multi", "how": "on", "drives": ["a", True]},
            "Invalid parameter type for 'null', expected: DriveRef",
        ),
        ("plug", {"id": "x"}, "Parameter 'driver' is missing"),
        ("plug", {"driver": 5}, "Invalid parameter type for 'driver', expected: string"),
        ("plug", {"driver": "x", "id": 1}, "Invalid parameter type for 'id', expected: string"),
        ("conditional", {}, "Parameter 'a' is missing"),
        ("conditional", {"a": True, "b": {"x": 1}}, "Parameter 'b.x' is unexpected"),
        ("conditional", {"a": True, "c": "zz"}, "Parameter 'c' does not accept value 'zz'"),
    ],
)
def test_refused(tables: Tables, command: str, arguments: dict[str, Any], desc: str) -> None:
    assert refusal(tables, command, arguments) == desc


def test_conditions_are_the_views() -> None:
    bare = Tables(GOOD)
    assert bare.commands["conditional"].check({}) == {}
    assert refusal(bare, "conditional", {"a": True}) == "Parameter 'a' is unexpected"
    assert refusal(bare, "drive-add", {"kind": "qcow2"}) == "Parameter 'kind' does not accept value 'qcow2'"
    full = Tables(GOOD, frozenset({"CONFIG_NULL"}))
    assert full.commands["drive-add"].check({"kind": "null-co"}) == {"kind": "null-co"}


def test_deep_recursion_of_a_type(tables: Tables) -> None:
    value: Any = "leaf"
    for _ in range(100):
        value = {"kind": "raw", "file": value}
    assert tables.commands["drive-add"].check(value) == value


@pytest.mark.parametrize(
    "name, value, path, desc",
    [
        ("str", 1, "props.x", "Invalid parameter type for 'props.x', expected: string"),
        ("uint8", 256, "props.x", "Parameter 'x' expects uint8_t"),
        ("[uint8]", [256], "x", "Parameter 'null' expects uint8_t"),
        ("[uint8]", ["a"], "props.x", "Parameter 'props.x[0]' expects uint64"),
        ("Mode", "zz", "objects[0].mode", "Parameter 'mode' does not accept value 'zz'"),
        ("Mode", "zz", "modes[3]", "Parameter 'null' does not accept value 'zz'"),
        ("RawDrive", {}, "drive", "Parameter 'drive.file' is missing"),
        ("Drive", [], "", "Invalid parameter type for '', expected: object"),
    ],
)
def test_check_type_names_the_path(tables: Tables, name: str, value: object, path: str, desc: str) -> None:
    with pytest.raises(QmpError) as caught:
        tables.check_type(name, value, path)
    assert caught.value.desc == desc


def test_check_type(tables: Tables) -> None:
    assert tables.check_type("[uint8]", [1, 2]) == [1, 2]
    assert tables.check_type("number", 2) == 2.0
    for name in ("Nope", "empty", "[Nope]"):
        with pytest.raises(KeyError):
            tables.check_type(name, 1)
        with pytest.raises(KeyError):
            tables.check_type(name, 1)


def test_check_event(tables: Tables) -> None:
    assert tables.check_event("SOMETHING_HAPPENED", {"what": "raw"}) == {"what": "raw"}
    assert tables.check_event("DRIVE_HAPPENED", {"kind": "2nd"}) == {"kind": "2nd"}
    with pytest.raises(QmpError, match="Parameter 'what' is missing"):
        tables.check_event("SOMETHING_HAPPENED", {})
    with pytest.raises(KeyError):
        tables.check_event("NOTHING_HAPPENED", {})
