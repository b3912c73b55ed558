"""Nodes of a device tree, and the flattened form (Devicetree Specification 0.4, chapter 5) by the PyPI package `fdt`.

    node["reg"] = [0, 0x10000000, 0, 0x100]        cells: 32 bits each
    node["compatible"] = ("sifive,test0", "syscon")
    node["status"] = "okay"
    node["interrupt-controller"] = True             a property without a value
    node["rng-seed"] = b"…"
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator, Sequence
from typing import Any

from ratite.qapi.errors import GenericError

Value = bool | int | str | bytes | tuple[str, ...] | list[int]

MAGIC = 0xD00DFEED
_HEAD = struct.Struct(">10I")
_VERSION = 17
_BEGIN_NODE, _END_NODE, _PROP, _NOP, _END = 1, 2, 3, 4, 9
_DEPTH = 64
_NAME_MAX = 127  # letters of a name; the specification has 31, and unit addresses behind that
_NAME = re.compile(r"[0-9a-zA-Z,._+#?-]+(@[0-9a-zA-Z,._+-]+)?")


class Node:
    """A node: properties in the order they were set, children in the order they were made."""

    def __init__(self, name: str = "") -> None:
        self.name = name
        self.props: dict[str, bytes] = {}
        self.children: dict[str, Node] = {}

    def __setitem__(self, name: str, value: Value) -> None:
        if value is False:
            self.props.pop(name, None)
        else:
            self.props[name] = _encoded(value)

    def __getitem__(self, name: str) -> bytes:
        return self.props[name]

    def __contains__(self, name: str) -> bool:
        return name in self.props

    def child(self, name: str) -> Node:
        """The child of this name, made if it isn't there."""
        if not _NAME.fullmatch(name):
            raise ValueError(f"'{name}' is no name of a node")
        return self.children.setdefault(name, Node(name))

    def walk(self, path: str = "") -> Iterator[tuple[str, Node]]:
        """(path, node) of this node and all below it."""
        yield path or "/", self
        for child in self.children.values():
            yield from child.walk(f"{path}/{child.name}")


def _encoded(value: Value) -> bytes:
    if isinstance(value, bytes):
        return value
    if isinstance(value, bool):
        return b""
    if isinstance(value, int):
        return struct.pack(">I", value)
    if isinstance(value, list):
        return struct.pack(f">{len(value)}I", *value)
    return b"".join(text.encode() + b"\0" for text in ((value,) if isinstance(value, str) else value))


def cells(value: int, count: int) -> list[int]:
    """`value` as `count` cells, the most significant first."""
    return [value >> 32 * n & 0xFFFFFFFF for n in reversed(range(count))]


def flatten(root: Node, reserved: Sequence[tuple[int, int]] = ()) -> bytes:
    """The tree as a blob; `reserved` are (address, size) of memory that the guest must leave alone."""
    fdt = _package()
    made = fdt.FDT(entries=[{"address": at, "size": size} for at, size in reserved])
    made.root = _their(fdt, root)
    blob: bytes = made.to_dtb(version=_VERSION)
    return blob


def size_of(root: Node, reserved: Sequence[tuple[int, int]] = ()) -> int:
    """The most bytes that `flatten` makes of the same, which takes much longer; GenericError where that can't.

    Fewer where a property's name is the end of another's: they share its letters.
    """
    _package()
    names: set[str] = set()
    size = _HEAD.size + 16 * (len(reserved) + 1) + 4
    for _, node in root.walk():
        size += 8 + (len(node.name) + 4 & ~3) + sum(12 + (len(value) + 3 & ~3) for value in node.props.values())
        names.update(node.props)
    return size + sum(len(name) + 1 for name in names)


def parse(path: str, blob: bytes) -> tuple[Node, list[tuple[int, int]]]:
    """(tree, memory reservations) of a blob; GenericError that names the file `path` when it isn't one.

    Read here, since `fdt` takes some values for strings and loses bytes of them.
    """
    if len(blob) < _HEAD.size or _HEAD.unpack_from(blob)[0] != MAGIC:
        raise _bad(path, "not a flattened device tree")
    total, _, _, _, version, oldest = _HEAD.unpack_from(blob)[1:7]
    if total > len(blob):
        raise _bad(path, f"its head tells {total} bytes, the file has {len(blob)}: it is truncated")
    if version < 16 or oldest > _VERSION:
        raise _bad(path, f"it is of version {version}, readable as {oldest}; {_VERSION} is taken")
    try:
        return _Reader(blob[:total]).read()
    except (ValueError, struct.error, UnicodeDecodeError) as exc:
        raise _bad(path, f"the device tree is damaged ({exc})") from exc


class _Reader:
    """One blob; what isn't right in it raises ValueError or struct.error."""

    def __init__(self, blob: bytes) -> None:
        self._blob = blob
        _, _, self._at, self._strings, self._reserved = _HEAD.unpack_from(blob)[:5]

    def read(self) -> tuple[Node, list[tuple[int, int]]]:
        reserved: list[tuple[int, int]] = []
        while (pair := struct.unpack_from(">QQ", self._blob, self._reserved + 16 * len(reserved))) != (0, 0):
            reserved.append(pair)
        root: Node | None = None
        stack: list[Node] = []
        while (tag := self._word()) != _END:
            if tag == _BEGIN_NODE:
                node = Node(self._name())
                if stack:
                    stack[-1].children[node.name] = node
                elif root is not None:
                    raise ValueError("it has two roots")
                else:
                    root = node
                stack.append(node)
                if len(stack) > _DEPTH:
                    raise ValueError(f"nodes are nested deeper than {_DEPTH}")
            elif tag == _END_NODE:
                if not stack:
                    raise ValueError("a node ends that never began")
                stack.pop()
            elif tag == _PROP and stack:
                size, name = self._word(), self._word()
                stack[-1].props[_text(self._blob, self._strings + name)] = self._bytes(size)
            elif tag != _NOP:
                raise ValueError(f"unknown token {tag:#x}")
        if root is None or stack:
            raise ValueError("it ends in the middle")
        return root, reserved

    def _word(self) -> int:
        value: int = struct.unpack_from(">I", self._blob, self._at)[0]
        self._at += 4
        return value

    def _bytes(self, size: int) -> bytes:
        value = self._blob[self._at : self._at + size]
        if len(value) != size:
            raise ValueError("a value reaches beyond the end")
        self._at += size + 3 & ~3
        return value

    def _name(self) -> str:
        name = _text(self._blob, self._at)
        self._at += len(name) + 4 & ~3
        return name


def _text(blob: bytes, at: int) -> str:
    end = blob.find(b"\0", at, at + _NAME_MAX + 1)
    if end < 0:
        raise ValueError(f"a name doesn't end, or has more than {_NAME_MAX} letters")
    return blob[at:end].decode("ascii")


def _package() -> Any:
    # Only who boots a guest with a device tree needs it.
    try:
        import fdt
    except ImportError as exc:
        raise GenericError(
            "the Python package 'fdt' is missing: it is needed to make device trees (pip install 'ratite[fdt]')"
        ) from exc
    return fdt


def _their(fdt: Any, node: Node) -> Any:
    made = fdt.Node(node.name or "/")
    for name, value in node.props.items():
        made.append(fdt.PropBytes(name, data=value) if value else fdt.Property(name))
    for child in node.children.values():
        made.append(_their(fdt, child))
    return made


def _bad(path: str, why: str) -> GenericError:
    return GenericError(f"Could not load device tree '{path}': {why}")
