"""The driver `raw`: another node as it is, or `size` bytes of it from `offset` on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from ratite.core.backends.block.node import SECTOR, BlockNode, NodeOptions, User
from ratite.core.backends.block.worker import Request
from ratite.qapi.errors import GenericError

if TYPE_CHECKING:
    from ratite.core.backends.block.iothread import IoThread


class RawNode(BlockNode):
    """A raw image in another node."""

    TYPE: ClassVar[str] = "block-raw"
    DRIVER: ClassVar[str] = "raw"

    def __init__(
        self,
        id: str,
        child: BlockNode,
        chosen: NodeOptions,
        offset: int = 0,
        size: int | None = None,
    ) -> None:
        super().__init__(id, chosen)
        self.child = self.below = child
        self._check_place(offset, size)
        self._place(offset, size)

    def _check_place(self, offset: int, size: int | None) -> None:
        whole = self.child.length()
        for name, value in (("offset", offset), ("size", size or 0)):
            if value < 0:
                raise GenericError(f"Parameter '{name}' expects a non-negative number")
            if value % SECTOR:
                raise GenericError(f"Specified {name} is not multiple of {SECTOR}")
        if offset > whole:
            raise GenericError(f"Offset ({offset}) cannot be greater than size of the containing file ({whole})")
        if size is not None and offset + size > whole:
            raise GenericError(
                f"The sum of offset ({offset}) and size ({size}) has to be smaller or equal to the  actual size of the "
                f"containing file ({whole})"
            )

    def _place(self, offset: int, size: int | None) -> None:
        self._offset = offset
        self._size = self.child.length() - offset if size is None else size
        self._fixed = size is not None

    def check_reopen(self, options: Mapping[str, Any]) -> None:
        super().check_reopen(options)
        if options["file"] != self.child.id:
            raise GenericError("Cannot change the option 'file'")
        self._check_place(options.get("offset", 0), options.get("size"))

    def reopen(self, chosen: NodeOptions, options: Mapping[str, Any]) -> None:
        super().reopen(chosen, options)
        was = self._size
        self._place(options.get("offset", 0), options.get("size"))
        if self._size != was:
            self.resized()

    @property
    def filename(self) -> str:
        return self.child.filename

    def length(self) -> int:
        return self._size

    def file_bytes(self) -> int:
        return self.child.file_bytes()

    def resize(self, size: int) -> None:
        if self.read_only:
            raise GenericError("Image is read-only")
        if self._fixed:
            raise GenericError("Cannot resize fixed-size raw disks")
        self.child.resize(self._offset + size)
        self._follow()

    def drive_resized(self) -> None:
        """The child has another size."""
        self._follow()

    def drive_replaced(self, other: BlockNode) -> None:
        """Another node stands in the child's place."""
        self.child.release(self)
        self.child = self.below = other
        self.users_changed()

    def _follow(self) -> None:
        size = max(0, self.child.length() - self._offset)
        if not self._fixed and size != self._size:
            self._size = size
            self.resized()

    def served_by(self, thread: IoThread | None) -> None:
        self.child.served_by(thread)

    def forward(self, request: Request) -> None:
        request.offset += self._offset
        self.child.submit(request)

    def stats(self) -> dict[str, Any]:
        return {**super().stats(), "parent": self.child.stats()}

    def users_changed(self) -> None:
        """The child's user is this node, as long as it has one itself."""
        if self.users:
            writes = any(user.writes for user in self.users.values())
            self.child.use(self, User(f"node '{self.id}' (uses node '{self.child.id}' as 'file' child)", writes))
        else:
            self.child.release(self)
