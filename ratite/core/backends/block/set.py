"""The block nodes of a machine: `/blockdevs/NAME`, made and removed by blockdev-add and blockdev-del."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from ratite.core.backends.block.file import FileNode
from ratite.core.backends.block.node import BlockNode
from ratite.core.backends.block.raw import RawNode
from ratite.core.hostfiles import FREE, HostFiles
from ratite.core.objects.obj import Obj
from ratite.qapi.errors import GenericError

if TYPE_CHECKING:
    from ratite.core.owner import Owner

# As QEMU's id_wellformed, and at most 31 letters.
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9._-]{0,30}")


class BlockSet(Obj):
    """Holds the nodes as its children; all of it under the machine lock."""

    TYPE: ClassVar[str] = "block-node-set"

    def __init__(self, owner: Owner, id: str = "/blockdevs", files: HostFiles = FREE) -> None:
        super().__init__(id)
        self._owner = owner
        self._files = files

    def add(self, options: Mapping[str, Any]) -> BlockNode:
        """blockdev-add: `options` as BlockdevOptions, checked by the schema.  GenericError."""
        if "node-name" not in options:
            raise GenericError("'node-name' must be specified for the root node")
        made = self._open(options, options["node-name"])
        made.options = dict(options)
        return made

    def _open(self, options: Mapping[str, Any], name: str, implicit: bool = False) -> BlockNode:
        if not implicit and not _NAME.fullmatch(name):
            raise GenericError(f"Invalid node-name: '{name}'")
        if name in self.children:
            raise GenericError(f"Duplicate nodes with node-name='{name}'")
        cache = options.get("cache", {})
        common = {
            "read_only": options.get("read-only", False),
            "discard": options.get("discard", "ignore") == "unmap",
            "no_flush": cache.get("no-flush", False),
            "direct": cache.get("direct", False),
        }
        node: BlockNode
        if options["driver"] == "file":
            locking = options.get("locking", "auto")
            node = FileNode(name, self._owner, options["filename"], locking=locking, files=self._files, **common)
        else:
            child = self._child(options, name)
            try:
                node = RawNode(name, child, offset=options.get("offset", 0), size=options.get("size"), **common)
            except GenericError:
                if child.implicit:
                    self._drop(child)
                raise
        node.implicit = implicit
        self.add_child(node)
        node.phase = "realized"
        return node

    def _child(self, options: Mapping[str, Any], name: str) -> BlockNode:
        """The node below: the one named, or one made of the options given in its place."""
        given = options["file"]
        if isinstance(given, str):
            return self.find(given, f"Cannot find device='{given}' nor node-name='{given}'")
        inherited = {key: options[key] for key in ("read-only", "cache") if key in options}
        below = {"discard": "unmap", **inherited, **given}
        if "node-name" in below:
            child = self._open(below, below["node-name"])
        else:
            child = self._open(below, f"#{name}.file", implicit=True)
        child.implicit = True
        return child

    def find(self, name: str, missing: str = "") -> BlockNode:
        """The node; GenericError when there is none."""
        found = self.children.get(name)
        if not isinstance(found, BlockNode):
            raise GenericError(missing or f"Failed to find node with node-name='{name}'")
        return found

    def remove(self, name: str) -> None:
        """blockdev-del: the node, and what was made along with it; refused while it is used."""
        node = self.find(name)
        if any(isinstance(other, RawNode) and other.child is node for other in self.children.values()):
            raise GenericError(f"Block device {name} is in use")
        if node.users:
            raise GenericError(f"Node {name} is in use")
        self._drop(node)

    def _drop(self, node: BlockNode) -> None:
        self.remove_child(node)
        node.close()
        node.phase = "unrealized"
        if isinstance(node, RawNode) and node.child.implicit:
            self._drop(node.child)

    def nodes(self) -> list[BlockNode]:
        """All of them, the newest first."""
        return [node for node in reversed(self.children.values()) if isinstance(node, BlockNode)]

    def close(self) -> None:
        """The machine goes, and every node with it."""
        for node in self.nodes():
            if node.parent is self:
                self._drop(node)
