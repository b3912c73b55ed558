"""In ratite's views whatever only inspects serves in every phase; what it says of things that aren't there yet is that."""

from __future__ import annotations

import json
from typing import Any

import pytest
from fuzz_world import KINDS, VIEWS, FuzzMonitor, World

# What inspects besides query-… and x-query-…, and arguments where some are needed.
MORE = {
    "qom-list", "qom-get", "qom-list-get", "qom-list-types", "qom-list-properties", "device-list-properties", "ringbuf-read",
}  # fmt: skip
ARGUMENTS: dict[str, dict[str, Any]] = {
    "qom-list": {"path": "/"},
    "qom-get": {"path": "/machine", "property": "type"},
    "qom-list-get": {"paths": ["/machine"]},
    "qom-list-properties": {"typename": "ns16550"},
    "device-list-properties": {"typename": "ns16550"},
    "query-memory": {"address": 0x80000000, "size": 4, "space": "riscv64-view"},
    "query-registers": {"cpu": "riscv64-cpu"},
    "query-cpu-model-expansion": {"type": "full", "model": {"name": "rv64"}},
    "ringbuf-read": {"device": "con", "size": 4},
}
# In which phases one of them says that what it was asked about isn't there, and how.
NOT_THERE = {
    ("none", "qom-get"): "Device '/machine' not found",
    ("none", "qom-list-get"): "Device '/machine' not found",
    ("none", "query-memory"): "There is no machine: its phase is 'none', and machine-create makes one",
    ("none", "query-registers"): "There is no machine: its phase is 'none', and machine-create makes one",
    ("none", "ringbuf-read"): "Device 'con' not found",
    ("created", "query-registers"): "'/machine/peripheral/riscv64-cpu' is not realized",
    ("initialized", "query-registers"): "'/machine/peripheral/riscv64-cpu' is not realized",
}


def _inspecting(monitor: FuzzMonitor) -> list[str]:
    return sorted(name for name in monitor.session.view.commands if name.startswith(("query-", "x-query-")) or name in MORE)


def _ask(monitor: FuzzMonitor, name: str) -> Any:
    (answer,) = monitor.ask(json.dumps({"execute": name, "arguments": ARGUMENTS.get(name, {})}).encode())
    return answer


NOT_THERE |= {(kind, "query-balloon"): "No balloon device has been activated" for kind in KINDS}


@pytest.mark.parametrize("kind", KINDS)
def test_inspecting_serves_in_every_phase(kind: str) -> None:
    with World(kind) as world:
        monitor = world.monitor(VIEWS[1], False)
        refused = {}
        for name in _inspecting(monitor):
            answer = _ask(monitor, name)
            if "error" in answer and "' is missing" not in answer["error"]["desc"]:
                refused[kind, name] = answer["error"]["desc"]
        assert refused == {key: desc for key, desc in NOT_THERE.items() if key[0] == kind}


def test_what_an_empty_daemon_says_of_a_machine() -> None:
    with World("none") as world:
        monitor = world.monitor(VIEWS[1], False)
        for name in ("query-cpus-fast", "query-pci", "query-jit", "query-memory-map"):
            assert _ask(monitor, name) == {"return": []}
        assert _ask(monitor, "query-wiring") == {"return": {"wires": [], "maps": []}}
        assert _ask(monitor, "query-topology") == {"return": {"objects": [], "wires": [], "maps": []}}
        assert _ask(monitor, "query-memory-size-summary") == {"return": {"base-memory": 0}}
        assert _ask(monitor, "qom-list") == {"return": [{"name": "type", "type": "string"}]}


def test_cpus_are_there_once_they_are_wired() -> None:
    found = {}
    for kind in ("created", "initialized", "paused"):
        with World(kind) as world:
            rows = _ask(world.monitor(VIEWS[0], False), "query-cpus-fast")["return"]
            found[kind] = [(row["qom-path"], row["thread-id"] != 0) for row in rows]
    hart = "/machine/peripheral/riscv64-cpu"
    assert found["created"] == []
    assert found["initialized"] == [(hart, False)]
    assert dict(found["paused"])[hart]
