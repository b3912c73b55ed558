"""`TypeRegistry`: every type, target and accelerator that exists, known without importing any of them.

Built-in ones come from `ratite/manifest.json`; those of other distributions from the entry-point groups
`ratite.objects`, `ratite.devices`, `ratite.targets`, `ratite.accelerators`, which are scanned once, at the first
question that could concern one.  A plug-in with a `manifest.json` in its package is not imported for the inventory;
one without is.  What fails to load, lacks a module that it requires or is outside the allow patterns stays in the
inventory as an unavailable row with its reason.

    module state   unloaded ──create──> loaded
                       └──────────────> failed (retried at the next create)      not-allowed (never imported)

Allow patterns (fnmatch, any must match; none: everything is allowed) are "PATTERN" or "KIND:PATTERN" with KIND one of
type, target, accelerator, plugin.  A type is allowed by its own name, a target of its or its distribution; the core's
own types are always.  This is the one file of core that reads JSON: a product of the build, not a protocol.
"""

from __future__ import annotations

import os
import sys
import threading
from importlib import import_module

from ratite.core import log
from ratite.qapi.errors import DeviceNotFound, GenericError, QmpError
from ratite.qapi.plugins import plugins_maybe as _plugins_maybe

TYPE_CHECKING = False
if TYPE_CHECKING:  # typing costs as much as the manifest, and a daemon imports this before its first answer
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from typing import Any

    from ratite.core.objects.obj import Obj

_PACKAGE = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
_GROUPS = ("ratite.objects", "ratite.devices", "ratite.targets", "ratite.accelerators")
_BUILT_IN = "ratite"


class TypeRow:
    """One type of the inventory.  `data` is its row as describe.py documents it; `reason` why it can't be created."""

    __slots__ = ("cls", "data", "dist", "failure", "name", "reason", "version")

    def __init__(self, data: Mapping[str, Any], dist: str, version: str) -> None:
        self.data = data
        self.name: str = data["name"]
        self.dist = dist
        self.version = version
        self.cls: type[Obj] | None = None
        self.reason = ""
        self.failure = ""

    @property
    def kind(self) -> str:
        """"object", "device", "cpu" or ""."""
        kind: str = self.data["kind"]
        return kind

    @property
    def abstract(self) -> bool:
        """Whether it can't be created because it is only a base."""
        return bool(self.data["abstract"])

    @property
    def module(self) -> str:
        """The Python module that declares it."""
        return str(self.data["module"]).partition(":")[0]

    @property
    def properties(self) -> Sequence[Mapping[str, Any]]:
        """The properties' rows, as Prop.describe gives them."""
        rows: Sequence[Mapping[str, Any]] = self.data["properties"]
        return rows


class TypeRegistry:
    """See the module's head.  One a daemon; machines and threads share it: rows are only ever added."""

    def __init__(
        self, manifest: Mapping[str, Mapping[str, Any]] | None = None, allow: Sequence[str] = (), plugins: bool = True
    ) -> None:
        from ratite import __version__

        self._allow = tuple(allow)
        self._rows: dict[str, TypeRow] = {}
        self._targets: dict[str, dict[str, Any]] = {}
        self._accelerators: dict[str, dict[str, Any]] = {}
        self._broken: list[dict[str, Any]] = []
        self._scanned = not plugins
        self._scanning = threading.Lock()
        self._enter(_read_manifest(_PACKAGE) if manifest is None else manifest, _BUILT_IN, __version__)

    # -- inventory

    def types(self, implements: str | None = None, abstract: bool | None = None) -> list[TypeRow]:
        """The types by name; `implements` restricts to one type or interface and what derives from it."""
        self._scan()
        return [
            row
            for name, row in sorted(self._rows.items())
            if (abstract is None or row.abstract == abstract) and (implements is None or self.is_a(name, implements))
        ]

    def find(self, name: str) -> TypeRow | None:
        """The type's row with its reason up to date, or None."""
        if name not in self._rows:
            self._scan()
        row = self._rows.get(name)
        if row is not None:
            row.reason = self._why_not(row)
        return row

    def describe(self, name: str) -> TypeRow:
        """The type's row; DeviceNotFound in QEMU's words."""
        row = self.find(name)
        if row is None:
            raise DeviceNotFound(f"Class '{name}' not found")
        return row

    def properties(self, name: str) -> Sequence[Mapping[str, Any]]:
        """The type's properties, its bases' included; DeviceNotFound."""
        return self.describe(name).properties

    def is_a(self, name: str, base: str) -> bool:
        """Whether the type is `base`, derives from it or implements it; False for unknown names."""
        row = self._rows.get(name)
        while row is not None:
            if row.name == base or base in row.data["implements"]:
                return True
            row = self._rows.get(row.data["parent"])
        return base == "object" and name in self._rows

    def targets(self) -> Mapping[str, Mapping[str, Any]]:
        """The targets by name: {"name", "word-size", "big-endian", "default-cpu", …, "reason" when unavailable}."""
        self._scan()
        return self._targets

    def target(self, name: str) -> Mapping[str, Any]:
        """One target's row; GenericError when there is none or it isn't available."""
        return self._choose(self.targets(), "target", name)

    def accelerators(self) -> Mapping[str, Mapping[str, Any]]:
        """The accelerators by name, best first: {"name", "module", "text", "reason" when unavailable}."""
        self._scan()
        return self._accelerators

    def accelerator(self, name: str) -> Any:
        """The accelerator's class, imported; GenericError with the reason when it can't be."""
        row = self._choose(self.accelerators(), "accelerator", name)
        return _import(row["module"], f"Accelerator '{name}'")

    def modules(self) -> list[dict[str, Any]]:
        """query-modules: name, kind, distribution, version, built-in, state, reason, types; by name."""
        found: dict[str, dict[str, Any]] = {}
        for row in self.types():
            row.reason = self._why_not(row)
            entry = found.setdefault(row.module, self._module(row.module, "type", row.dist, row.version))
            entry["types"].append(row.name)
            if row.kind and not row.abstract:
                entry["kind"] = row.kind
            entry["reason"] = entry["reason"] or row.reason
            if not self._allowed_type(row):
                entry["state"] = "not-allowed"
            elif row.failure or (row.reason and row.cls is None):
                entry["state"] = "failed"
        for kind, table in (("target", self._targets), ("accelerator", self._accelerators)):
            for data in table.values():
                name = str(data["module"]).partition(":")[0]
                entry = found.setdefault(name, self._module(name, kind, data["dist"], data["version"]))
                entry["reason"] = entry["reason"] or data.get("reason", "")
                if entry["reason"] == _NOT_ALLOWED:
                    entry["state"] = "not-allowed"
        return [found[name] for name in sorted(found)] + self._broken

    @staticmethod
    def _module(name: str, kind: str, dist: str, version: str) -> dict[str, Any]:
        return {
            "name": name,
            "kind": kind,
            "distribution": dist,
            "version": version,
            "built-in": dist == _BUILT_IN,
            "state": "loaded" if sys.modules.get(name) is not None else "unloaded",
            "reason": "",
            "types": [],
        }

    # -- creation

    def load(self, name: str) -> type[Obj]:
        """The type's class, imported if need be; GenericError with the reason when it can't be."""
        row = self.describe(name)
        if row.cls is not None:
            return row.cls
        if row.reason and not row.failure:
            raise GenericError(f"Type '{name}' is not available: {row.reason}")
        try:
            cls = _import(row.data["module"], f"Type '{name}'")
            if getattr(cls, "TYPE", None) != name:
                raise GenericError(f"Type '{name}' is not available: {row.data['module']} is no longer that type")
        except QmpError as exc:
            row.failure = exc.desc.partition("is not available: ")[2] or exc.desc
            log.warn("type failed to load", type=name, module=row.module, reason=row.failure)
            raise
        row.failure = ""
        row.cls = cls
        return row.cls

    def create(self, name: str, id: str) -> Obj:
        """A new object of the type, in phase `created` and nowhere in a tree; DeviceNotFound, GenericError."""
        cls = self.load(name)
        if cls.ABSTRACT:
            raise GenericError(f"Type '{name}' is abstract: it can't be created")
        try:
            return cls(id)
        except QmpError:
            raise
        except Exception as exc:
            raise GenericError(f"Type '{name}' failed to create '{id}': {type(exc).__name__}: {exc}") from exc

    def register(self, cls: type[Obj]) -> None:
        """Add a class of this process (tests, embedding programs) and its bases."""
        from ratite.core.objects.describe import describe_class

        for base in reversed(cls.__mro__):
            type_name = base.__dict__.get("TYPE")
            if type_name is not None and (type_name not in self._rows or base is cls):
                row = TypeRow(describe_class(base), _BUILT_IN, "")
                row.cls = base
                self._rows[type_name] = row

    def add_rows(self, rows: Mapping[str, Mapping[str, Any]]) -> None:
        """Add types that nothing is made of by name, as rows of a manifest: what introspection shows."""
        self._enter({"types": rows}, _BUILT_IN, "")

    def add_target(self, row: Mapping[str, Any]) -> None:
        """Add a target of this process (tests): {"name", "word-size", "big-endian", "module", …}."""
        self._targets[row["name"]] = {"module": "", "dist": _BUILT_IN, "version": "", **row}

    def add_accelerator(self, row: Mapping[str, Any]) -> None:
        """Add an accelerator of this process (tests): {"name", "module": "module:Class", "text"}."""
        self._accelerators[row["name"]] = {"dist": _BUILT_IN, "version": "", **row}

    # -- availability

    def _why_not(self, row: TypeRow) -> str:
        if row.cls is not None:
            return ""
        if not self._allowed_type(row):
            return _NOT_ALLOWED
        for module in row.data["requires"]:
            if not _exists(module):
                return f"needs the module '{module}', which this host doesn't have"
        if row.dist == _BUILT_IN and not _built_in_exists(row.module):
            return f"module '{row.module}' is missing"
        return row.failure

    def _allowed_type(self, row: TypeRow) -> bool:
        if row.module.startswith("ratite.core."):
            return True
        names = [("type", row.name), ("plugin", row.dist), *(("target", t) for t in row.data["targets"])]
        return self._allowed(names)

    def _allowed(self, names: Iterable[tuple[str, str]]) -> bool:
        if not self._allow:
            return True
        return any(name != _BUILT_IN and _matches(kind, name, p) for kind, name in names for p in self._allow)

    def _choose(self, table: Mapping[str, Mapping[str, Any]], what: str, name: str) -> Mapping[str, Any]:
        row = table.get(name)
        if row is None:
            raise GenericError(f"{what.capitalize()} '{name}' not found (there are: {', '.join(table) or 'none'})")
        if row.get("reason"):
            raise GenericError(f"{what.capitalize()} '{name}' is not available: {row['reason']}")
        return row

    # -- sources

    def _enter(self, manifest: Mapping[str, Mapping[str, Any]], dist: str, version: str) -> None:
        for name, data in manifest.get("types", {}).items():
            if name in self._rows:
                if self._rows[name].data["module"] != data["module"]:
                    self._clash("type", name, dist, version, self._rows[name].dist)
                continue
            self._rows[name] = TypeRow(data, dist, version)
        for kind, table in (("target", self._targets), ("accelerator", self._accelerators)):
            for name, data in manifest.get(f"{kind}s", {}).items():
                if name in table:
                    self._clash(kind, name, dist, version, table[name]["dist"])
                    continue
                table[name] = {**data, "dist": dist, "version": version}
                if not self._allowed(((kind, name), ("plugin", dist))):
                    table[name]["reason"] = _NOT_ALLOWED

    def _clash(self, kind: str, name: str, dist: str, version: str, owner: str) -> None:
        self._fail(f"{dist}:{name}", kind, dist, version, f"{kind} '{name}' is already declared by '{owner}'")

    def _fail(self, name: str, kind: str, dist: str, version: str, reason: str, state: str = "failed") -> None:
        row = self._module(name, kind, dist, version)
        row.update(state=state, reason=reason)
        self._broken.append(row)
        log.warn("plug-in unavailable", plugin=name, distribution=dist, reason=reason)

    def _scan(self) -> None:
        """Look for plug-ins of other distributions, once."""
        if not self._scanned:
            with self._scanning:
                if not self._scanned:
                    self._scan_plugins()
                    self._scanned = True

    def _scan_plugins(self) -> None:
        seen: set[str] = set()
        for package, dist, version in _plugin_packages():
            if package in seen:
                continue
            seen.add(package)
            try:
                manifest = _plugin_manifest(package, self._allowed((("plugin", dist),)))
                if manifest is None:
                    self._fail(package, "plugin", dist, version, _NOT_ALLOWED, "not-allowed")
                else:
                    self._enter(manifest, dist, version)
            except (Exception, SystemExit) as exc:
                self._fail(package, "plugin", dist, version, f"{type(exc).__name__}: {exc}")


_NOT_ALLOWED = "not allowed"


def _read_manifest(folder: str) -> Mapping[str, Mapping[str, Any]]:
    import json

    try:
        with open(os.path.join(folder, "manifest.json"), "rb") as file:
            manifest: Mapping[str, Mapping[str, Any]] = json.load(file)
    except FileNotFoundError:
        return {}
    return manifest


def _plugin_packages() -> Iterator[tuple[str, str, str]]:
    """(package, distribution, version) of every entry point that isn't ours."""
    if not _plugins_maybe():
        return
    from importlib.metadata import entry_points

    for group in _GROUPS:
        for point in sorted(entry_points(group=group), key=lambda p: p.name):
            dist = point.dist
            if dist is not None and dist.name != _BUILT_IN:
                yield point.value, dist.name, dist.version


def _plugin_manifest(package: str, allowed: bool) -> Mapping[str, Mapping[str, Any]] | None:
    """The plug-in's manifest: its file if it brings one, else made by importing it; None when that isn't allowed."""
    from importlib.util import find_spec

    # Only the top-level package is looked for: asking for a deeper one would import the ones above.
    top, *below = package.split(".")
    spec = find_spec(top)
    if spec is None:
        raise ImportError(f"package '{package}' not found")
    for place in spec.submodule_search_locations or ():
        folder = os.path.join(place, *below)
        if os.path.exists(os.path.join(folder, "manifest.json")):
            return _read_manifest(folder)
    if not allowed:
        return None
    from ratite.core.objects.manifest import describe

    return describe(package)


def _matches(kind: str, name: str, pattern: str) -> bool:
    from fnmatch import fnmatchcase

    want, colon, rest = pattern.partition(":")
    return fnmatchcase(name, pattern) or (bool(colon) and want == kind and fnmatchcase(name, rest))


def _import(where: str, what: str) -> Any:
    """The class at "module:Class"; GenericError "`what` is not available: reason" whatever the module does."""
    module, _, name = where.partition(":")
    try:
        found: Any = import_module(module)
        for part in name.split("."):
            found = getattr(found, part)
    except (Exception, SystemExit) as exc:
        raise GenericError(f"{what} is not available: cannot import '{module}': {type(exc).__name__}: {exc}") from exc
    return found


def _exists(module: str) -> bool:
    from importlib.util import find_spec

    try:
        return find_spec(module) is not None
    except (ImportError, ValueError):
        return False


def _built_in_exists(module: str) -> bool:
    if sys.modules.get(module) is not None or not module.startswith("ratite."):
        return True
    path = os.path.join(_PACKAGE, *module.split(".")[1:])
    return os.path.exists(f"{path}.py") or os.path.exists(os.path.join(path, "__init__.py"))
