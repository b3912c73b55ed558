"""The object types as a view shows them.

In ratite's own views that is the type registry.  A view with QEMU's manners, or one that is pinned to a target, has no types of
other targets' CPUs; with QEMU's manners there are also types that only QEMU has as such: accelerators, by QEMU's name where it
has the like (`alias` in the accelerator's row), and the containers of the composition tree.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from ratite.qapi.errors import DeviceNotFound

if TYPE_CHECKING:
    from ratite.core.objects.registry import TypeRow
    from ratite.daemon.dispatch import Context


class ShownType(NamedTuple):
    """A type; `row` is None for one that isn't the registry's, and then it has no properties."""

    name: str
    parent: str
    abstract: bool
    row: TypeRow | None = None

    @property
    def properties(self) -> Sequence[Mapping[str, Any]]:
        """The registry's rows."""
        return () if self.row is None else self.row.properties

    @property
    def pluggable(self) -> bool:
        """Whether device_add makes it."""
        return self.row is not None and not self.abstract and self.row.kind in ("device", "cpu")


def find_type(ctx: Context, name: str) -> ShownType | None:
    """The type of this name, if the view has it."""
    row = ctx.daemon.registry.find(name)
    if row is not None:
        return _of(row) if _fits(ctx, row) else None
    return next((each for each in _more(ctx) if each.name == name), None)


def list_types(ctx: Context, implements: str | None, abstract: bool) -> Iterator[ShownType]:
    """All types, by name, then those that aren't the registry's; `implements`: what that type is a base of or it implements."""
    for row in ctx.daemon.registry.types(implements, None if abstract else False):
        if _fits(ctx, row):
            yield _of(row)
    for each in _more(ctx):
        if (abstract or not each.abstract) and implements in (None, "object", each.parent, each.name):
            yield each


def class_not_found(name: str) -> DeviceNotFound:
    """In QEMU's words."""
    return DeviceNotFound(f"Class '{name}' not found")


def _of(row: TypeRow) -> ShownType:
    return ShownType(row.name, row.data["parent"], row.abstract, row)


def _fits(ctx: Context, row: TypeRow) -> bool:
    targets, shown = row.data["targets"], ctx.view.targets
    if not targets or not shown or (ctx.ratite and ctx.session.pinned is None):
        return True
    return any(target in shown for target in targets)


def _more(ctx: Context) -> Iterator[ShownType]:
    if ctx.ratite:
        return
    yield ShownType("accel", "object", True)
    yield ShownType("container", "object", False)
    for row in ctx.daemon.registry.accelerators().values():
        if "alias" in row:
            yield ShownType(f"{row['alias']}-accel", "accel", False)
