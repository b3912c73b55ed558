"""What a machine may open of the host: the one place where its objects open files and ask for what else they need.

`HostFiles` lets everything pass: who speaks QMP to a daemon of his own has that user's rights anyway.  `ConfinedFiles` is for
machines of others: a file is named NAME/FILE, or by an absolute path, and must lie below a directory that was allowed;
the kernel resolves it there (openat2(2) with RESOLVE_BENEATH), so neither "..", nor a link, nor a race leads outside.
Starting programs, pseudo terminals, network sockets need a permission each.
"""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, NamedTuple

from ratite.qapi.errors import GenericError

if TYPE_CHECKING:
    from ratite.core.objects.obj import Obj

EXEC, PTY, NET, STDIO = "exec", "pty", "net", "stdio"

# Not files, but sources of randomness that a type names by default.
_DEVICES = ("/dev/urandom", "/dev/random")
_CLOEXEC = getattr(os, "O_CLOEXEC", 0)
_PATH = getattr(os, "O_PATH", 0) | _CLOEXEC
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND

# openat2(2); the number is the same on every architecture.
_SYS_OPENAT2 = 437
_RESOLVE_NO_MAGICLINKS, _RESOLVE_BENEATH = 0x02, 0x08
_AGAIN = 8


class HostFiles:
    """Everything may be opened.  Paths are as the host's calls take them; OSError or ValueError as these raise."""

    def open(self, path: str, flags: int, mode: int = 0o666) -> int:
        """A descriptor."""
        return os.open(path, flags, mode)

    def stat(self, path: str) -> os.stat_result:
        """Facts about what is there; links are followed."""
        return os.stat(path)

    def unlink(self, path: str) -> None:
        """Removes a name."""
        os.unlink(path)

    def temporary(self, folder: str) -> int:
        """A descriptor of a file in `folder` that has no name."""
        import tempfile  # which few need

        fd, name = tempfile.mkstemp(prefix="ratite_mem.", dir=folder)
        os.unlink(name)
        return fd

    @contextmanager
    def place(self, path: str, make: bool) -> Iterator[str]:
        """A path to bind (`make`) or to connect a UNIX socket to."""
        yield path

    def need(self, permission: str, what: str) -> None:
        """GenericError unless the machine may do `what`."""


FREE = HostFiles()


class Root(NamedTuple):
    """A directory that is allowed: its name, its place on the host, whether it may be written to, a descriptor of it."""

    name: str
    path: str
    writable: bool
    fd: int


class ConfinedFiles(HostFiles):
    """Only what lies below `roots`, and what `permissions` name.  The roots' descriptors are its own."""

    def __init__(self, roots: Sequence[Root], permissions: Sequence[str]) -> None:
        self._roots = tuple(roots)
        self._permissions = frozenset(permissions)

    def open(self, path: str, flags: int, mode: int = 0o666) -> int:
        if path in _DEVICES and not flags & _WRITES:
            return os.open(path, flags)
        root, rest = self._find(path)
        if flags & _WRITES and not root.writable:
            raise OSError(errno.EACCES, f"directory '{root.name}' is allowed for reading only", path)
        return _open_beneath(root.fd, rest, flags | _CLOEXEC, mode)

    def stat(self, path: str) -> os.stat_result:
        root, rest = self._find(path)
        fd = _open_beneath(root.fd, rest, _PATH, 0)
        try:
            return os.fstat(fd)
        finally:
            os.close(fd)

    def unlink(self, path: str) -> None:
        with self._parent(path) as (folder, name):
            os.unlink(name, dir_fd=folder)

    def temporary(self, folder: str) -> int:
        return self.open(folder, os.O_RDWR | getattr(os, "O_TMPFILE", 0), 0o600)

    @contextmanager
    def place(self, path: str, make: bool) -> Iterator[str]:
        if make:
            with self._parent(path) as (folder, name):
                yield f"/proc/self/fd/{folder}/{name}"
            return
        root, rest = self._find(path)
        if not root.writable:
            # Whoever listens there would be told what the machine says.
            raise OSError(errno.EACCES, f"directory '{root.name}' is allowed for reading only", path)
        # The very inode: what its name means may change meanwhile.
        fd = _open_beneath(root.fd, rest, _PATH, 0)
        try:
            yield f"/proc/self/fd/{fd}"
        finally:
            os.close(fd)

    def need(self, permission: str, what: str) -> None:
        if permission not in self._permissions:
            raise GenericError(f"{what} is not permitted here (--permit {permission})")

    @contextmanager
    def _parent(self, path: str) -> Iterator[tuple[int, str]]:
        """(descriptor of the directory, the name in it) of what is to be made or removed."""
        root, rest = self._find(path)
        if not root.writable:
            raise OSError(errno.EACCES, f"directory '{root.name}' is allowed for reading only", path)
        above, _, name = rest.rpartition("/")
        if name in ("", ".", ".."):
            raise OSError(errno.EINVAL, "it must end in a file's name", path)
        fd = _open_beneath(root.fd, above or ".", _PATH | getattr(os, "O_DIRECTORY", 0), 0)
        try:
            yield fd, name
        finally:
            os.close(fd)

    def _find(self, path: str) -> tuple[Root, str]:
        """The root that a path is below, and what follows.  OSError."""
        if path.startswith("/"):
            for root in sorted(self._roots, key=lambda root: -len(root.path)):
                if path == root.path or path.startswith(root.path.rstrip("/") + "/"):
                    return root, path[len(root.path) :].lstrip("/") or "."
        else:
            name, _, rest = path.partition("/")
            for root in self._roots:
                if root.name == name:
                    return root, rest.lstrip("/") or "."
        names = ", ".join(f"'{root.name}'" for root in self._roots) or "none"
        raise OSError(errno.EACCES, f"it must be NAME/FILE with NAME an allowed directory ({names})", path)


def _open_beneath(folder: int, path: str, flags: int, mode: int) -> int:
    """openat2 with RESOLVE_BENEATH: `path` resolved below `folder`, or OSError."""
    if "\0" in path:
        raise ValueError("embedded null byte")
    if sys.platform != "linux":
        raise OSError(errno.ENOSYS, "this host can't open files below a directory only")
    import ctypes

    class How(ctypes.Structure):
        """struct open_how."""

        _fields_ = (("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64))

    makes = flags & os.O_CREAT or flags & os.O_TMPFILE == os.O_TMPFILE
    how = How(flags, mode if makes else 0, _RESOLVE_BENEATH | _RESOLVE_NO_MAGICLINKS)
    libc = ctypes.CDLL(None, use_errno=True)
    code = errno.EAGAIN
    for _ in range(_AGAIN):
        # EAGAIN: something was renamed while the kernel looked.
        fd: int = libc.syscall(
            ctypes.c_long(_SYS_OPENAT2), ctypes.c_int(folder), os.fsencode(path), ctypes.byref(how),
            ctypes.c_size_t(ctypes.sizeof(how)),
        )  # fmt: skip
        if fd >= 0:
            return fd
        code = ctypes.get_errno()
        if code not in (errno.EAGAIN, errno.EINTR):
            break
    if code == errno.EXDEV:
        raise OSError(errno.EACCES, "it leads out of its directory", path)
    if code in (errno.ENOSYS, errno.EPERM):
        raise OSError(code, "this host has no openat2", path)
    raise OSError(code, os.strerror(code), path)


def open_root(name: str, path: str, writable: bool) -> Root:
    """A directory to allow; OSError."""
    path = os.path.abspath(path)
    return Root(name, path, writable, os.open(path, _PATH | getattr(os, "O_DIRECTORY", 0)))


def files_of(obj: Obj) -> HostFiles:
    """The files of an object's machine; a test's object may have none."""
    machine = obj.__dict__.get("machine")
    files: HostFiles = FREE if machine is None else machine.files
    return files


def unlink_own(files: HostFiles, path: str, inode: tuple[int, int] | None) -> None:
    """Removes a name if it still is that of this inode (device, number)."""
    if inode is not None:
        with suppress(OSError):
            facts = files.stat(path)
            if (facts.st_dev, facts.st_ino) == inode:
                files.unlink(path)
