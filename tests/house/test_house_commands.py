"""Every command of the schema has a handler, and every handler a command."""

from __future__ import annotations

import json

from house_sources import PACKAGE

from ratite.daemon import commands
from ratite.daemon.dispatch import collect


def test_schema_and_handlers_are_the_same_set() -> None:
    entities = json.loads((PACKAGE / "schema" / "resolved.json").read_text())["definitions"]
    in_schema = {entity["name"] for entity in entities if entity["meta"] == "command"}
    handled = set(collect(commands.MODULES))
    assert sorted(in_schema - handled) == [], "commands without a handler"
    assert sorted(handled - in_schema) == [], "handlers without a command"
