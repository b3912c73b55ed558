"""The schema that ships: fresh, served by handlers, and QEMU 10.0's as far as it is built."""

from __future__ import annotations

import json
import lzma
from pathlib import Path
from typing import Any

from ratite.daemon import commands
from ratite.daemon.dispatch import collect
from ratite.daemon.schema_build import PRODUCTS, build
from ratite.daemon.views import Views, load_schema

# what query-qmp-schema of QEMU 10.0's qemu-system-riscv64 answers
FACTS = Path(__file__).parent / "data" / "qemu-10.0-riscv64.json.xz"


def test_resolved_schema_is_fresh() -> None:
    for source, resolved in PRODUCTS:
        assert resolved.read_bytes() == build(source), "run python -m ratite.daemon.schema_build"


def test_every_command_has_a_handler_and_every_handler_a_command() -> None:
    declared = {each["name"] for each in load_schema().definitions if each["meta"] == "command"}
    assert set(collect(commands.MODULES)) == declared


def test_every_definition_is_documented() -> None:
    for definition in load_schema().definitions:
        if not definition.get("implicit"):
            assert definition["doc"].get("text"), definition["name"]


class Shapes:
    """Types of an introspection by structure, without the masked names."""

    def __init__(self, entries: list[dict[str, Any]]) -> None:
        self.by_name = {entry["name"]: entry for entry in entries}

    def of(self, name: str, seen: tuple[str, ...] = ()) -> Any:
        if name in seen:
            return ["recursion", len(seen) - seen.index(name)]
        seen = (*seen, name)
        entry = self.by_name[name]
        meta = entry["meta-type"]
        if meta == "array":
            return ["array", self.of(entry["element-type"], seen)]
        if meta == "enum":
            return ["enum", sorted((m["name"], *m.get("features", ())) for m in entry["members"])]
        if meta == "object":
            members = {
                m["name"]: [self.of(m["type"], seen), m.get("default", "required"), sorted(m.get("features", ()))]
                for m in entry["members"]
            }
            variants = {v["case"]: self.of(v["type"], seen) for v in entry.get("variants", ())}
            return ["object", members, entry.get("tag"), variants]
        if meta == "alternate":
            return ["alternate", [self.of(m["type"], seen) for m in entry["members"]]]
        return name


def missing(ours: Any, theirs: Any, where: str) -> list[str]:
    """What differs, other than that ours has fewer enum values, branches and optional members."""
    if not isinstance(ours, list) or ours[0] != theirs[0]:
        return [] if ours == theirs else [f"{where}: {ours} / {theirs}"]
    if ours[0] == "array":
        return missing(ours[1], theirs[1], where + "[]")
    if ours[0] == "enum":
        extra = set(map(tuple, ours[1])) - set(map(tuple, theirs[1]))
        return [f"{where}: values {sorted(extra)}"] if extra else []
    if ours[0] != "object":
        return [] if ours == theirs else [f"{where}: {ours} / {theirs}"]
    found = [] if ours[2] == theirs[2] else [f"{where}: tag {ours[2]} / {theirs[2]}"]
    for name, (shape, default, features) in ours[1].items():
        if name not in theirs[1]:
            found.append(f"{where}.{name}: unknown to QEMU")
            continue
        found += missing(shape, theirs[1][name][0], f"{where}.{name}")
        if [default, features] != theirs[1][name][1:]:
            found.append(f"{where}.{name}: {default} {features} / {theirs[1][name][1:]}")
    found += [f"{where}.{n}: lacking" for n, m in theirs[1].items() if n not in ours[1] and m[1] == "required"]
    for name, shape in ours[3].items():
        found += missing(shape, theirs[3].get(name), f"{where}/{name}")
    return found


def test_the_qemu_view_is_qemus_as_far_as_it_goes() -> None:
    theirs = json.loads(lzma.decompress(FACTS.read_bytes()))
    if isinstance(theirs, dict):
        theirs = theirs["return"]
    ours = Views(load_schema(), lambda kinds: {}).get("qemu", ["riscv64"]).tables.introspect()
    our_shapes, their_shapes = Shapes(ours), Shapes(theirs)
    differences = []
    for entry in ours:
        if entry["meta-type"] not in ("command", "event"):
            continue
        name = entry["name"]
        other = their_shapes.by_name.get(name)
        if other is None:
            differences.append(f"{name}: unknown to QEMU")
            continue
        for key in ("features", "allow-oob", "meta-type"):
            if entry.get(key) != other.get(key):
                differences.append(f"{name}: {key} {entry.get(key)} / {other.get(key)}")
        for key in ("arg-type", "ret-type"):
            if key in entry:
                differences += missing(our_shapes.of(entry[key]), their_shapes.of(other[key]), f"{name}({key})")
    assert differences == []
    # Full enums where nothing is missing.
    for command, key in (("query-status", "ret-type"), ("query-target", "ret-type"), ("query-cpus-fast", "ret-type"),
                         ("qom-list", "ret-type"), ("memsave", "arg-type"), ("human-monitor-command", "arg-type"),
                         ("query-cpu-definitions", "ret-type"), ("device_add", "arg-type"),
                         ("query-cpu-model-expansion", "arg-type"),
                         ("query-cpu-model-expansion", "ret-type")):  # fmt: skip
        assert our_shapes.of(our_shapes.by_name[command][key]) == their_shapes.of(their_shapes.by_name[command][key])


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
