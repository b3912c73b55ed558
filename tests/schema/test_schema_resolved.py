"""The schema that ships: fresh, served by handlers, and QEMU 10.0's as far as it is built."""

from __future__ import annotations

import pytest

from ratite.clients import schema_diff
from ratite.clients.schema_reasons import reason
from ratite.daemon import commands
from ratite.daemon.dispatch import Handlers
from ratite.daemon.schema_build import PRODUCTS, build
from ratite.daemon.views import Views, load_schema


def test_resolved_schema_is_fresh() -> None:
    for source, resolved in PRODUCTS:
        assert resolved.read_bytes() == build(source), "run python -m ratite.daemon.schema_build"


def test_every_command_has_a_handler_and_every_handler_a_command() -> None:
    declared = {each["name"] for each in load_schema().definitions if each["meta"] == "command"}
    assert set(Handlers(commands.__name__, commands.MODULES)) == declared


def test_every_definition_is_documented() -> None:
    for definition in load_schema().definitions:
        if not definition.get("implicit"):
            assert definition["doc"].get("text"), definition["name"]


@pytest.mark.parametrize("target", schema_diff.facts())
def test_the_qemu_view_is_qemus_as_far_as_it_goes(target: str) -> None:
    """Nothing is there that QEMU 10.0 hasn't, nothing is otherwise, and whatever lacks has a reason."""
    found = schema_diff.compare(schema_diff.shipped(target), schema_diff.facts()[target])
    assert [str(row) for row in found if row.kind != schema_diff.MISSING] == []
    assert [str(row) for row in found if not reason(row)] == [], "say why in ratite/clients/schema_reasons.py"


def test_ratites_own_commands_are_absent_under_the_qemu_personality() -> None:
    cache = Views(load_schema(), lambda kinds: {})
    own = set(cache.get().commands) - set(cache.get("qemu").commands)
    assert {"machine-create", "wire-irq", "unwire-irq", "map-region", "unmap-region", "query-wiring", "machine-wire",
            "query-machine-phase", "query-view", "query-jit",
            "view-select", "query-targets", "query-device-types", "query-modules", "query-accelerators",
            "machine-dump", "device-add", "device-del", "qom-list-get", "monitor-add", "chardev-attach",
            "query-topology", "query-memory-map", "query-memory", "memory-write", "query-registers"} == own  # fmt: skip


def test_only_who_asks_for_the_schema_waits_for_it() -> None:
    """Checking object-add's arguments takes the registry's types, not the answer to query-qmp-schema."""
    view = Views(load_schema(), lambda kinds: {}).get()
    add, schema = view.commands["object-add"], view.commands["query-qmp-schema"]
    assert view.needs_extension(add) and view.needs_extension(schema)
    view.extend(view.extension(add)())
    assert not view.needs_extension(add)
    assert not view.tables.introspected and view.needs_extension(schema)
    made = view.extension(schema)()
    view.extend(made)
    assert made is view.tables and made.introspected and not view.needs_extension(schema)
