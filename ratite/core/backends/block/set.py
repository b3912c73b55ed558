"""The block nodes of a machine: `/blockdevs/NAME`, made and removed by blockdev-add and blockdev-del.

What nodes are is imported with the first one: most machines of a short life have none.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, cast

from ratite.core.hostfiles import FREE, HostFiles
from ratite.core.objects.obj import Obj
from ratite.qapi.errors import GenericError

if TYPE_CHECKING:
    from ratite.core.backends.block.node import BlockNode
    from ratite.core.backends.block.throttle import Limits, ThrottledDisk, ThrottleGroup
    from ratite.core.owner import Owner

# As QEMU's id_wellformed, and at most 31 letters.
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9._-]{0,30}")


Emit = Callable[[str, dict[str, Any]], None]


class BlockSet(Obj):
    """Holds the nodes as its children; `emit` sends an event; all of it under the machine lock."""

    TYPE: ClassVar[str] = "block-node-set"

    def __init__(self, owner: Owner, emit: Emit, id: str = "/blockdevs", files: HostFiles = FREE) -> None:
        super().__init__(id)
        self.emit = emit
        # By name; a group lives as long as a disk is in it.
        self._groups: dict[str, ThrottleGroup] = {}
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
        from ratite.core.backends.block.file import FileNode
        from ratite.core.backends.block.node import NodeOptions
        from ratite.core.backends.block.raw import RawNode

        chosen = NodeOptions.of(options)
        node: BlockNode
        if options["driver"] == "file":
            locking = options.get("locking", "auto")
            node = FileNode(name, self._owner, options["filename"], chosen, locking, self._files)
        else:
            child = self._child(options, name)
            try:
                node = RawNode(name, child, chosen, options.get("offset", 0), options.get("size"))
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
        inherited = {key: options[key] for key in ("read-only", "cache", "auto-read-only", "force-share") if key in options}
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
        if found is None:
            raise GenericError(missing or f"Failed to find node with node-name='{name}'")
        return cast("BlockNode", found)

    def find_drive(self, name: str) -> BlockNode | None:
        """The node that `-drive` made under this name."""
        return next((node for node in self.nodes() if name and node.drive == name), None)

    def limit(self, disk: ThrottledDisk, name: str | None, limits: Limits) -> None:
        """block_set_io_throttle: the disk joins the group of this name, or stays in its own, which gets the limits."""
        old = disk.throttle
        if limits.none:
            group = None
        elif name is None:
            group = old or self._group(disk.path, disk)
        else:
            group = self._group(name, disk)
        disk.set_throttle(group)
        if old is not None and group is not old:
            old.members.discard(disk)
            if not old.members:
                del self._groups[old.name]
        if group is not None:
            group.members.add(disk)
            group.set_limits(limits)

    def _group(self, name: str, disk: ThrottledDisk) -> ThrottleGroup:
        from ratite.core.backends.block.throttle import ThrottleGroup

        return self._groups.setdefault(name, ThrottleGroup(name, disk.machine.clock))

    def reopen(self, wanted: Sequence[Mapping[str, Any]]) -> None:
        """blockdev-reopen: nodes get other options, those that aren't given their defaults.  GenericError: nothing has changed,
        but where the host refuses a file, which those before it in the list don't notice."""
        from ratite.core.backends.block.node import NodeOptions

        found = []
        for options in wanted:
            if "node-name" not in options:
                raise GenericError("node-name not specified")
            node = self.find(options["node-name"])
            chosen = NodeOptions.of(options)
            node.check_reopen(options)
            found.append((node, chosen, options))
        for node, chosen, options in found:
            node.reopen(chosen, options)
            node.options = dict(options) if node.options else {}

    def resize(self, name: str, size: int) -> None:
        """block_resize; GenericError in QEMU's words."""
        node = self.find(name, f"Cannot find device='' nor node-name='{name}'")
        if size < 0:
            raise GenericError("Parameter 'size' expects a >0 size")
        if size > node.LENGTH_MAX:
            raise GenericError(f"offset({size}) exceeds maximum({node.LENGTH_MAX})")
        node.check_free()
        node.resize(size)

    def set_write_threshold(self, name: str, threshold: int) -> None:
        """block-set-write-threshold; GenericError."""
        self.find(name, f"Device '{name}' not found").write_threshold = threshold

    def remove(self, name: str) -> None:
        """blockdev-del: the node, and what was made along with it; refused while it is used."""
        node = self.find(name)
        node.check_free()
        if any(other.below is node for other in self.nodes()):
            raise GenericError(f"Block device {name} is in use")
        if node.users:
            raise GenericError(f"Node {name} is in use")
        self._drop(node)

    def _drop(self, node: BlockNode) -> None:
        self.remove_child(node)
        node.close()
        node.phase = "unrealized"
        if node.below is not None and node.below.implicit:
            self._drop(node.below)

    def nodes(self) -> list[BlockNode]:
        """All of them, the newest first."""
        return [cast("BlockNode", node) for node in reversed(self.children.values())]

    def close(self) -> None:
        """The machine goes, and every node with it."""
        for node in self.nodes():
            if node.parent is self:
                self._drop(node)
