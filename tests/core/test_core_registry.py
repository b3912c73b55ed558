"""The type registry: knows everything, imports nothing; what can't be loaded is a row with its reason."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

import ratite
from ratite.core.objects import manifest as generator
from ratite.core.objects import registry as registry_module
from ratite.core.objects.describe import describe_class
from ratite.core.objects.obj import Obj
from ratite.core.objects.props import config
from ratite.core.objects.registry import TypeRegistry
from ratite.qapi.errors import DeviceNotFound, GenericError

ROOT = Path(ratite.__file__).parents[1]


class Lone(Obj):
    """A lone type.  With a second sentence."""

    TYPE = "lone"
    KIND = "object"
    REQUIRES = ("no_such_module_here",)
    level = config("uint8", 1, "a level")


def table(cls: type[Obj] = Lone, **changes: Any) -> dict[str, Any]:
    return {"types": {cls.TYPE: {**describe_class(cls), **changes}}}


def test_the_manifest_is_fresh() -> None:
    assert generator.main(["--check"]) == 0


def test_entry_points_of_pyproject_are_those_of_the_groups() -> None:
    points = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"]
    assert {group for group in points if group.startswith("ratite.")} <= {*generator.GROUPS, "ratite.machines"}


def test_asking_imports_no_type() -> None:
    code = """
import sys
from ratite.core.objects.registry import TypeRegistry
r = TypeRegistry(plugins=False)
rows = r.types()
assert rows and r.properties("memory-backend-ram") and r.describe("cpu").abstract
assert r.is_a("memory-backend-ram", "memory-backend") and r.modules() and r.targets() is not None
bad = [m for m in sys.modules if m.startswith(("ratite.hw.", "ratite.targets.", "ratite.core.memory", "ratite.core.cpu",
    "ratite.core.engine", "ratite.core.accel", "asyncio", "importlib.metadata", "inspect", "structlog", "llvmlite"))]
assert not bad, bad
"""
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


def test_every_type_of_the_manifest_can_be_loaded_and_says_what_it_is() -> None:
    registry = TypeRegistry(plugins=False)
    for row in registry.types():
        cls = registry.load(row.name)
        assert row.data == {**describe_class(cls)}
        assert row.data["text"] and not row.data["text"].startswith(" ")
        assert all(prop["text"] for prop in row.properties), row.name


def test_unknown_and_abstract_types() -> None:
    registry = TypeRegistry(plugins=False)
    with pytest.raises(DeviceNotFound, match="Class 'zzz' not found"):
        registry.describe("zzz")
    with pytest.raises(GenericError, match="'memory-backend' is abstract"):
        registry.create("memory-backend", "x")
    assert registry.types(implements="memory-backend", abstract=False)
    assert not registry.is_a("zzz", "object")


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"requires": [], "module": "ratite.hw.nowhere:Gone"}, "module 'ratite.hw.nowhere' is missing"),
        ({}, "needs the module 'no_such_module_here', which this host doesn't have"),
        ({"requires": [], "module": "no_such_package:X"}, "No module named 'no_such_package'"),
        ({"requires": [], "module": f"{__name__}:Nope"}, "has no attribute 'Nope'"),
        ({"requires": [], "module": f"{__name__}:ROOT"}, "is no longer that type"),
    ],
)
def test_a_type_that_cannot_be_loaded_is_a_row_with_its_reason(changes: dict[str, Any], reason: str) -> None:
    if "module" not in changes:
        changes["module"] = "ratite.core.machine:Lone"
    registry = TypeRegistry(table(**changes), plugins=False)
    with pytest.raises(GenericError, match="Type 'lone' is not available") as info:
        registry.create("lone", "x")
    assert reason in info.value.desc
    row = registry.describe("lone")
    assert reason in row.reason
    (module,) = registry.modules()
    assert module["state"] == "failed" and reason in module["reason"] and module["types"] == ["lone"]


def test_a_module_that_ends_the_process_is_only_a_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "ratite_test_exits.py").write_text("raise SystemExit(3)")
    monkeypatch.syspath_prepend(tmp_path)
    registry = TypeRegistry(table(requires=[], module="ratite_test_exits:Lone"), plugins=False)
    with pytest.raises(GenericError, match="SystemExit: 3"):
        registry.create("lone", "x")
    assert registry.describe("lone").reason
    text = "from test_core_registry import Lone"
    (tmp_path / "ratite_test_exits.py").write_text(text)
    import importlib

    importlib.invalidate_caches()
    monkeypatch.syspath_prepend(Path(__file__).parent)
    assert registry.create("lone", "x").id == "x", "what is repaired is tried again"
    assert registry.describe("lone").reason == "" and registry.modules()[0]["state"] == "loaded"


def test_allow_patterns_bound_what_is_imported() -> None:
    rows = {"types": {
        "a": {**describe_class(Lone), "name": "a", "requires": [], "module": "ratite_x:A", "targets": ["t1"]},
        "b": {**describe_class(Lone), "name": "b", "requires": [], "module": "ratite_y:B"},
    }, "targets": {"t1": {"name": "t1", "module": "ratite_x"}, "t2": {"name": "t2", "module": "ratite_z"}}}

    def reasons(*allow: str) -> dict[str, str]:
        registry = TypeRegistry(rows, allow, plugins=False)
        found = {name: registry.describe(name).reason for name in ("a", "b")}
        return found | {name: str(row.get("reason", "")) for name, row in registry.targets().items()}

    no = "not allowed"
    assert reasons() == {"a": "", "b": "", "t1": "", "t2": ""}
    assert reasons("b") == {"a": no, "b": "", "t1": no, "t2": no}
    assert reasons("target:t*") == {"a": "", "b": no, "t1": "", "t2": ""}
    assert reasons("type:t*") == {"a": no, "b": no, "t1": no, "t2": no}
    registry = TypeRegistry(rows, ["b"], plugins=False)
    with pytest.raises(GenericError, match="'a' is not available: not allowed"):
        registry.create("a", "x")
    with pytest.raises(GenericError, match="Target 't1' is not available: not allowed"):
        registry.target("t1")
    states = {row["name"]: row["state"] for row in registry.modules()}
    assert states == {"ratite_x": "not-allowed", "ratite_y": "unloaded", "ratite_z": "not-allowed"}
    assert TypeRegistry(allow=["nothing"], plugins=False).create("address-space", "x"), "the core's own are always allowed"


PLUGIN = """
from ratite.core.objects.obj import Obj
class Gadget(Obj):
    "A gadget."
    TYPE = "gadget"
    KIND = "object"
"""


@pytest.fixture
def plugins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three distributions: a good one, one that raises, one that brings its manifest."""

    def dist(name: str, body: str) -> None:
        package = tmp_path / f"rt_{name}"
        package.mkdir()
        (package / "__init__.py").write_text(body)
        info = tmp_path / f"rt_{name}-1.2.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: rt-{name}\nVersion: 1.2\n")
        (info / "entry_points.txt").write_text(f"[ratite.devices]\n{name} = rt_{name}\n")

    dist("good", "TYPES = ('rt_good.gadget:Gadget',)")
    (tmp_path / "rt_good" / "gadget.py").write_text(PLUGIN)
    dist("bad", "raise RuntimeError('broken plug-in')")
    dist("lazy", "raise RuntimeError('imported')")
    lazy = generator.text(table(requires=[], module="rt_lazy.x:Lone"))
    (tmp_path / "rt_lazy" / "manifest.json").write_text(lazy)
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    for name in [m for m in sys.modules if m.startswith("rt_")]:
        del sys.modules[name]


def test_plugins_are_found_and_a_failing_one_is_a_row(plugins: Path) -> None:
    registry = TypeRegistry()
    assert registry.create("gadget", "g").is_a("gadget")
    assert registry.describe("lone").dist == "rt-lazy"
    rows = {row["name"]: row for row in registry.modules()}
    assert rows["rt_bad"]["state"] == "failed" and "broken plug-in" in rows["rt_bad"]["reason"]
    assert rows["rt_good.gadget"]["distribution"] == "rt-good" and rows["rt_good.gadget"]["version"] == "1.2"
    assert rows["rt_good.gadget"]["state"] == "loaded" and not rows["rt_good.gadget"]["built-in"]
    assert rows["rt_lazy.x"]["state"] == "unloaded", "a plug-in with a manifest is not imported"
    assert "rt_lazy" not in sys.modules


def test_a_plugin_outside_the_patterns_is_not_imported(plugins: Path) -> None:
    registry = TypeRegistry(allow=["plugin:rt-good"])
    assert registry.create("gadget", "g")
    rows = {row["name"]: row for row in registry.modules()}
    assert rows["rt_bad"]["state"] == "not-allowed" and "rt_bad" not in sys.modules
    assert rows["rt_lazy.x"]["state"] == "not-allowed"


def test_a_plugin_cannot_take_a_name(plugins: Path) -> None:
    registry = TypeRegistry(table(requires=[]))
    rows = [row for row in registry.modules() if "already declared by 'ratite'" in row["reason"]]
    assert len(rows) == 1 and registry.describe("lone").dist == "ratite"


def test_plugins_are_looked_for_only_when_it_matters(monkeypatch: pytest.MonkeyPatch) -> None:
    scans = []
    monkeypatch.setattr(registry_module, "_plugin_packages", lambda: scans.append(1) or ())
    registry = TypeRegistry()
    registry.create("address-space", "x")
    assert scans == []
    registry.types()
    registry.types()
    assert scans == [1]


@pytest.mark.parametrize(("info", "foreign"), [
    ("ratite-0.1.0.dist-info", False), ("ratite.egg-info", False), ("ratite_more-1.dist-info", True), ("other.egg-info", True),
])  # fmt: skip
def test_who_may_be_a_plugin(info: str, foreign: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An editable install leaves ratite.egg-info in the source tree: that is no reason to look further at each start."""
    (tmp_path / info).mkdir()
    (tmp_path / info / "entry_points.txt").write_text("[ratite.devices]\nhw = ratite.hw\n")
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    assert registry_module._plugins_maybe() is foreign
