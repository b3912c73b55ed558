"""The published schema: valid in itself, and to anybody's validator what it is to ours."""

from __future__ import annotations

import json

import pytest
from jsonschema import Draft202012Validator
from machinefile_kit import Kit
from test_machinefile_errors import EVERYTHING

from ratite.qapi import machinefile
from ratite.qapi.machinefile import files
from ratite.qapi.machinefile.document import read_document
from ratite.qapi.machinefile.problems import Problems


@pytest.fixture(scope="module")
def validator() -> Draft202012Validator:
    """As an editor would have it."""
    schema = json.loads(json.dumps(machinefile.json_schema(files.declarations())))
    Draft202012Validator.check_schema(schema)
    return Draft202012Validator(schema)


@pytest.mark.parametrize("name", [profile.full_name for profile in files.profiles()])
def test_profiles_are_right_by_it(name: str, validator: Draft202012Validator) -> None:
    document = read_document(name, files.profile(name).path.read_text(), Problems())
    assert document is not None
    assert [error.message for error in validator.iter_errors(document.data)] == []


def test_what_is_wrong_is_wrong_by_it(validator: Draft202012Validator, kit: Kit) -> None:
    """All that isn't about names of this machine or about counts."""
    document = read_document("x", EVERYTHING, Problems())
    assert document is not None
    sections = {str(error.absolute_path[0]) for error in validator.iter_errors(document.data) if error.absolute_path}
    assert {"ratite", "objects", "devices", "chardevs", "maps", "wires"} <= sections
    assert kit.problems(EVERYTHING)


def test_it_completes_types_and_properties(validator: Draft202012Validator) -> None:
    defs = validator.schema["$defs"]
    uart = defs["devices.ns16550"]
    assert uart["description"]
    assert uart["properties"]["baudbase"]["default"] == 115200
    assert "(baud)" in uart["properties"]["baudbase"]["description"]
    assert "devices.xlnx.mailbox" in defs
    assert "chardevs.socket" in defs
    assert {"if", "then"} <= defs["devices"]["allOf"][0].keys()


def test_without_libyaml_it_is_the_same(kit: Kit, monkeypatch: pytest.MonkeyPatch) -> None:
    import yaml

    told = kit.problems(EVERYTHING)
    monkeypatch.delattr(yaml, "CSafeLoader", raising=False)
    assert kit.problems(EVERYTHING) == told
    (problem,) = kit.problems("a: " + "[" * 100_000)
    assert "nested 32 deep" in problem
