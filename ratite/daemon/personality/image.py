"""An image of modules: what a start imports, compiled, in one file: of a shim's beside the shims, of `ratited`'s in the user's
cache (`ratite/daemon/kept.py`).

A start takes some 300 modules from as many files; where the host keeps none of them in memory, finding and reading them takes
longer than all they then do.  From an image each is one read at a known place.  A module counts only while its source is
what was compiled, by time of change and size; any other is found by its path, as if there were no image.

    file:  `ratite-modules 1 INTERPRETER\\n`, length of the index (8 digits), the index (marshal), code after code (marshal)
    index: name → (source, whether it is a package, mtime in ns, size, offset behind the index, length)

Code is executed, so who could write the file could be us: it must be root's or ours, and nobody else may write it.
"""

from __future__ import annotations

import marshal
import os
import sys
from importlib.machinery import ModuleSpec, SourceFileLoader

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from types import CodeType, ModuleType

    Row = tuple[str, bool, int, int, int, int]

NAME = ".ratite-modules"
# Code is of one release of the interpreter.
_HEAD = f"ratite-modules 1 {sys.implementation.cache_tag} {sys.hexversion:x} {sys.flags.optimize}\n".encode()
_DIGITS = 8
# What marshal raises for what the host has not written out before it lost power, or can't read any more.
_SPOILT = (EOFError, ValueError, TypeError, OSError)


def use(path: str) -> None:
    """Import from the image at `path` from now on, if there is one for this interpreter that can be trusted."""
    finder = opened(path)
    if finder is not None:
        sys.meta_path.insert(0, finder)


def opened(path: str, folder: int | None = None) -> Finder | None:
    """The image at `path` (in the folder of that descriptor), if there is one for this interpreter that can be trusted."""
    flags = os.O_RDONLY | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    try:
        fd = os.open(path, flags, dir_fd=folder)
    except OSError:
        return None
    try:
        # Lower ones are the places of closed standard streams, which may be given to something else.
        index = _index_of(fd) if fd > 2 else None
    except _SPOILT:
        index = None
    if index is None:
        os.close(fd)
        return None
    return Finder(fd, *index)


def _index_of(fd: int) -> tuple[int, dict[str, Row]] | None:
    """Where the code begins, and the index; None for what is no image, or none of ours."""
    info = os.fstat(fd)
    if info.st_uid not in (0, os.geteuid()) or info.st_mode & 0o022 or info.st_mode & 0o170000 != 0o100000:
        return None
    # All of it will be read: the host's disk works while the first modules are executed.
    if hasattr(os, "posix_fadvise"):
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_WILLNEED)
    head = os.pread(fd, len(_HEAD) + _DIGITS, 0)
    if not head.startswith(_HEAD) or not head[len(_HEAD) :].isdigit():
        return None
    length = int(head[len(_HEAD) :])
    rows: dict[str, Row] = marshal.loads(os.pread(fd, length, len(head)))
    begin = len(head) + length
    return (begin, rows) if begin + sum(row[-1] for row in rows.values()) == info.st_size else None


class Finder:
    """Finds the modules of an image."""

    def __init__(self, fd: int, begin: int, rows: dict[str, Row]) -> None:
        self._fd = fd
        self._begin = begin
        self._rows = rows

    def find_spec(self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None) -> ModuleSpec | None:
        """As importlib's finders."""
        row = self._rows.get(name)
        if row is None:
            return None
        source, package, mtime, size, _, _ = row
        try:
            info = os.stat(source)
        except OSError:
            return None
        if info.st_mtime_ns != mtime or info.st_size != size:
            return None
        spec = ModuleSpec(name, Loader(name, source, self), origin=source)
        spec.has_location = True
        if package:
            spec.submodule_search_locations = [os.path.dirname(source)]
        return spec

    def code(self, name: str) -> CodeType | None:
        """A module's; None, and it is here no more, where that is spoilt."""
        try:
            code: CodeType = marshal.loads(self._bytes(self._rows[name]))
        except _SPOILT:
            del self._rows[name]
            return None
        return code

    def _bytes(self, row: Row) -> bytes:
        *_, offset, length = row
        return os.pread(self._fd, length, self._begin + offset)

    def fresh(self) -> Mapping[str, tuple[Row, bytes]]:
        """The modules that still count, as they are in the file."""
        rows = tuple(self._rows.items())  # others import meanwhile
        return {name: (row, self._bytes(row)) for name, row in rows if self.find_spec(name) is not None}

    def has(self, name: str) -> bool:
        """Whether the module comes from here."""
        return self.find_spec(name) is not None

    def touch(self) -> None:
        """It was of use now."""
        if os.utime in os.supports_fd:
            os.utime(self._fd)


class Loader(SourceFileLoader):
    """Loads a module as from its source, whose code the image has."""

    def __init__(self, name: str, source: str, finder: Finder) -> None:
        super().__init__(name, source)
        self._finder = finder

    def get_code(self, fullname: str) -> CodeType | None:
        """As importlib's loaders."""
        return self._finder.code(fullname) or super().get_code(fullname)


def source_of(name: str) -> str:
    """Where an imported module's source is; "" for one that has no place in an image."""
    spec = getattr(sys.modules.get(name), "__spec__", None)
    if spec is None or spec.name != name or not isinstance(spec.loader, SourceFileLoader):
        return ""
    return spec.origin or ""


def packed(names: Sequence[str], more: Mapping[str, tuple[Row, bytes]] | None = None) -> bytes:
    """An image of these modules, which are imported; those without a source are left out.  `more`: some of another image."""
    rows: dict[str, Row] = {}
    codes: list[bytes] = []
    offset = 0
    for name in dict.fromkeys([*names, *(more or ())]):
        if more and name in more:
            row, code = more[name]
        else:
            source = source_of(name)
            if not source:
                continue
            info, spec = os.stat(source), sys.modules[name].__spec__
            assert spec is not None and isinstance(spec.loader, SourceFileLoader), "source_of says so"
            if isinstance(spec.loader, Loader):
                continue  # its source has changed since, and this is the code of what it was
            row = (source, spec.submodule_search_locations is not None, info.st_mtime_ns, info.st_size, 0, 0)
            code = marshal.dumps(spec.loader.get_code(name))
        codes.append(code)
        rows[name] = (*row[:4], offset, len(code))
        offset += len(code)
    index = marshal.dumps(rows)
    return b"".join([_HEAD, b"%0*d" % (_DIGITS, len(index)), index, *codes])


def write(path: str, names: Sequence[str]) -> None:
    """A file with an image of these modules, for everybody to read."""
    new = f"{path}.new"
    with open(new, "wb") as file:
        os.fchmod(file.fileno(), 0o644)
        file.write(packed(names))
    os.replace(new, path)


def modules() -> list[str]:
    """What a start may import, in about that order: of ratite what makes machines and serves them, and what that takes along.
    It is imported into this process."""
    import pkgutil
    from contextlib import suppress
    from importlib import import_module

    import ratite

    for name in _FIRST:
        import_module(name)
    rooms = tuple(f"ratite.{room}." for room in ("qapi", "core", "hw", "targets", "daemon"))
    for found in pkgutil.walk_packages(ratite.__path__, "ratite."):
        if found.name.startswith(rooms) and not found.name.startswith(_ELSEWHERE) and not found.name.endswith("__main__"):
            with suppress(ImportError):
                import_module(found.name)
    return list(sys.modules)


_FIRST = (
    "ratite.daemon.personality.translate", "ratite.daemon.commands", "ratite.daemon.personality.launch",
    "ratite.daemon.personality.startup", "ratite.daemon.loop", "ratite.core.machine", "ratite.core.accel.jit",
)  # fmt: skip
# Other programs' than a shim's.
_ELSEWHERE = ("ratite.daemon.control", "ratite.daemon.web")


if __name__ == "__main__":
    # Run by its path, with the path that the shims have.
    sys.path[:] = sys.argv[2].split(os.pathsep)
    write(sys.argv[1], modules())
