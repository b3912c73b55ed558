"""Policies: what is deprecated or unstable is refused or hidden where a view's facts say so, in QEMU 10.0's words."""

from __future__ import annotations

from typing import Any

import pytest

from ratite.qapi.errors import GenericError
from ratite.qapi.resolved import ResolvedSchema
from ratite.qapi.tables import Tables


def marked(name: str, *features: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "features": [{"name": feature} for feature in features], **more}


SCHEMA = ResolvedSchema([
    {"meta": "enum", "name": "Kind", "members": [{"name": "new"}, marked("old", "deprecated"), marked("odd", "unstable")]},
    {"meta": "struct", "name": "Inner", "members": [{"name": "kinds", "type": "[Kind]", "optional": True},
                                                     marked("old", "deprecated", type="int", optional=True)]},
    {"meta": "struct", "name": "Arguments", "members": [{"name": "inner", "type": "Inner"},
                                                         marked("x-odd", "unstable", type="bool", optional=True)]},
    {"meta": "command", "name": "do", "arg-type": "Arguments"},
    {"meta": "command", "features": [{"name": "deprecated"}], "name": "old-do"},
    {"meta": "command", "features": [{"name": "unstable"}], "name": "x-do"},
    {"meta": "event", "features": [{"name": "deprecated"}], "name": "OLD"},
])  # fmt: skip
ALL = {"inner": {"kinds": ["new"], "old": 1}, "x-odd": True}


def tables(*facts: str) -> Tables:
    return Tables(SCHEMA, frozenset(facts))


def refusal(arguments: dict[str, Any], *facts: str) -> str:
    with pytest.raises(GenericError) as told:
        tables(*facts).commands["do"].check(arguments)
    return told.value.desc


def test_without_a_policy_all_is_taken() -> None:
    assert tables().commands["do"].check(ALL) == ALL
    assert tables("HIDE_DEPRECATED").commands["do"].check(ALL) == ALL


def test_members_and_values_are_refused() -> None:
    assert refusal(ALL, "REJECT_DEPRECATED") == "Deprecated parameter old disabled by policy"
    assert refusal(ALL, "REJECT_UNSTABLE") == "Unstable parameter x-odd disabled by policy"
    old, odd = ({"inner": {"kinds": ["new", kind]}} for kind in ("old", "odd"))
    assert refusal(old, "REJECT_DEPRECATED") == "Deprecated value old disabled by policy"
    assert refusal(odd, "REJECT_UNSTABLE") == "Unstable value odd disabled by policy"
    assert tables("REJECT_UNSTABLE").commands["do"].check(old) == old
    assert "does not accept value 'none'" in refusal({"inner": {"kinds": ["none"]}}, "REJECT_DEPRECATED")


def test_what_is_deprecated_is_hidden_from_introspection() -> None:
    shown, hidden = tables().introspect(), tables("HIDE_DEPRECATED").introspect()
    names = [entry["name"] for entry in hidden]
    assert {entry["name"] for entry in shown} - set(names) == {"old-do", "OLD"} and "x-do" in names
    members = [row["name"] for entry in hidden if entry["meta-type"] == "object" for row in entry["members"]]
    assert sorted(members) == ["inner", "kinds", "x-odd"]
    assert [entry.get("values") for entry in shown if entry["meta-type"] == "enum"] == [["new", "old", "odd"]]
    (enum,) = [entry for entry in hidden if entry["meta-type"] == "enum"]
    # Values are told all the same, with their marks.
    assert [row["name"] for row in enum["members"]] == ["new", "old", "odd"] and "values" not in enum
