"""Every command of the schema has a handler, and every handler a command; the table of modules says where."""

from __future__ import annotations

import json
from importlib import import_module
from pkgutil import iter_modules

from house_sources import PACKAGE

from ratite.daemon import commands
from ratite.daemon.dispatch import Handlers, marked


def test_schema_and_handlers_are_the_same_set() -> None:
    entities = json.loads((PACKAGE / "schema" / "resolved.json").read_text())["definitions"]
    in_schema = {entity["name"] for entity in entities if entity["meta"] == "command"}
    handled = set(Handlers(commands.__name__, commands.MODULES))
    assert sorted(in_schema - handled) == [], "commands without a handler"
    assert sorted(handled - in_schema) == [], "handlers without a command"


def test_the_table_says_what_the_modules_say() -> None:
    """No handler is where nobody looks for it, and none is looked for where it isn't."""
    found = {}
    for row in iter_modules(commands.__path__):
        names = set(marked(import_module(f"{commands.__name__}.{row.name}")))
        if names:
            found[row.name] = names
    assert {module: set(names.split()) for module, names in commands.MODULES.items()} == found
    assert all(len(names.split()) == len(set(names.split())) for names in commands.MODULES.values())
