"""Files of the host are opened in one place, `core/hostfiles.py`, so that a machine can be confined."""

from __future__ import annotations

import ast

from house_sources import none, sources

# Who opens files that no client names: our own products and what the kernel tells.
OWN = (
    "ratite/core/hostfiles.py",
    "ratite/core/engine/",  # the code cache
    "ratite/core/memory/limits.py",  # /proc
    "ratite/core/objects/",  # manifests
)
# What each may call all the same: its own standard streams, what it holds open already, files without a name.
EXCUSED = {
    "ratite/core/backends/file.py": {"os.open"},
    "ratite/core/backends/sockets.py": {"os.unlink"},
}
CALLS = {"os.open", "os.stat", "os.unlink", "os.truncate", "open", "unlink", "mkstemp", "read_text", "read_bytes"}


def name_of(node: ast.expr) -> str:
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        owner = node.value.id if isinstance(node.value, ast.Name) else ""
        return f"os.{node.attr}" if owner == "os" else node.attr if node.attr != "open" else ""
    return ""


def asks_files(node: ast.expr) -> bool:
    """`files.unlink` and the like are what is wanted."""
    return isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "files"


def test_core_and_devices_open_no_files_by_themselves() -> None:
    offenders = [
        f"{source.path}:{node.lineno}: {name_of(node.func)}() passes core/hostfiles.py by"
        for source in sources()
        if source.room in ("core", "hw", "targets") and not source.path.startswith(OWN)
        for node in ast.walk(source.tree)
        if isinstance(node, ast.Call)
        and name_of(node.func) in CALLS - EXCUSED.get(source.path, set())
        and not asks_files(node.func)
    ]
    none(offenders)
