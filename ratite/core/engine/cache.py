"""Compiled objects kept on disk, so that a daemon that finds its code there needs no compiler.

Two places are asked in turn: the system's, owned by root (``/var/cache/ratite``), and the user's
(``$XDG_CACHE_HOME/ratite`` or ``~/.cache/ratite``, mode 0700), where new objects go (``ratite cache warm --system``: into the
system's, for everybody to read). A file counts only if it and its
directory belong to root or to us and nobody else may write them, and if its checksum holds; anything else is ignored,
never executed. A file: ``ratite-object 2\\n``, key, newline, BLAKE2b (32 bytes) of the rest, newline, the object.
"""

from __future__ import annotations

import os
import re
import stat
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress

from ratite.qapi.kept import PART, digest, key_of, part_name, trusted, user_folder

# Flags that hosts without POSIX don't have.
_DIRECTORY = getattr(os, "O_DIRECTORY", 0)
_SAFE = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)
_MAGIC = b"ratite-object 2\n"
_HEAD = len(_MAGIC) + 65 + 65
_LIMIT = 64 << 20
_OURS = re.compile(rf"[0-9a-f]{{64}}|{re.escape(PART)}.+")  # names of files that caches make
_SETTLED = 2_000_000_000  # ns after which a file that changes has another time of change
SYSTEM = "/var/cache/ratite"
SOURCES = "sources"


def source_digest(cache: ObjectCache, *packages: str) -> bytes:
    """What the code generators' sources say: a digest over every .py file of the packages' folders.

    It is kept in a folder of ``cache`` by what tells that a file has changed (place, inode, size, times): a start need not
    read them."""
    from importlib.util import find_spec

    files: list[tuple[list[str], str]] = []
    for package in packages:
        spec = find_spec(package)
        for place in (spec.submodule_search_locations or []) if spec else []:
            files += sorted(_sources(place, []))
    infos = [os.stat(path) for _, path in files]
    stamp = key_of(b"sources", *(
        os.fsencode(f"{path}\0{info.st_dev} {info.st_ino} {info.st_size} {info.st_mtime_ns} {info.st_ctime_ns}")
        for (_, path), info in zip(files, infos, strict=True)))
    kept = cache.folder(SOURCES)
    found = kept.load(stamp)
    if found is None:
        found = _digest_of(files)
        if all(abs(time.time_ns() - info.st_ctime_ns) > _SETTLED for info in infos):
            kept.store(stamp, found)
    return found


def _sources(place: str, above: list[str]) -> Iterator[tuple[list[str], str]]:
    """(names of the folders and of the file, path) of every .py file below a folder."""
    with os.scandir(place) as entries:
        for entry in entries:
            names = [*above, entry.name]
            if entry.is_dir(follow_symlinks=False):
                yield from _sources(entry.path, names)
            elif entry.name.endswith(".py"):
                yield names, entry.path


def _digest_of(files: Sequence[tuple[list[str], str]]) -> bytes:
    found = digest()
    for names, path in files:
        found.update(os.fsencode("/".join(names)))
        with open(path, "rb") as file:
            found.update(file.read())
    return found.digest()


class ObjectCache:
    """``load`` and ``store`` by key. Neither raises for what the file system does: no cache is slow, not wrong.

    ``listed``: what is there is listed once, at the first load, so that asking for what isn't there, thousands of times,
    costs no system call; what other processes add later is not seen."""

    def __init__(self, system: str = SYSTEM, user: str | None = None, *, listed: bool = False) -> None:
        self._system = system
        self._user = user if user is not None else user_folder()
        self._listed = listed
        self._names: dict[str, set[str]] = {}  # by place

    def load(self, key: str) -> bytes | None:
        """The object under ``key``, or None."""
        for place in (self._system, self._user):
            found = self._read(place, key) if place and self._may_have(place, key) else None
            if found is not None:
                return found
        return None

    def _may_have(self, place: str, key: str) -> bool:
        if not self._listed:
            return True
        names = self._names.get(place)
        if names is None:
            try:
                names = set(os.listdir(place))
            except OSError:
                names = set()
            self._names[place] = names
        return key in names

    def folder(self, name: str) -> ObjectCache:
        """A cache of many in a folder of this one's places, listed."""
        system, user = (os.path.join(place, name) if place else "" for place in (self._system, self._user))
        return ObjectCache(system, user, listed=True)

    @property
    def user(self) -> str:
        """The user's place; "" where there is none."""
        return self._user

    def usable(self) -> bool:
        """Whether the user's place may be used: as long as it isn't there, it may."""
        try:
            info = os.lstat(self._user)
        except OSError:
            return bool(self._user)
        return stat.S_ISDIR(info.st_mode) and trusted(info)

    def files(self) -> list[tuple[float, int, str]]:
        """(time of last use, bytes, path) of every file that caches made in the user's place, the oldest first."""
        found = []
        for folder, _, names in os.walk(self._user) if self._user and self.usable() else ():
            for name in filter(_OURS.fullmatch, names):
                path = os.path.join(folder, name)
                try:
                    info = os.lstat(path)
                except OSError:
                    continue
                found.append((info.st_mtime, info.st_size, path))
        return sorted(found)

    def trim(self, limit: int) -> int:
        """Removes the longest unused files until ``limit`` bytes are left; how many went. Those that can't be removed stay."""
        rows = self.files()
        total, gone = sum(size for _, size, _ in rows), 0
        for _, size, path in rows:
            if total <= limit:
                break
            try:
                os.unlink(path)
            except FileNotFoundError:  # somebody else's turn
                pass
            except OSError:
                continue
            total -= size
            gone += 1
        return gone

    def _read(self, place: str, key: str) -> bytes | None:
        try:
            folder = os.open(place, os.O_RDONLY | _DIRECTORY | _SAFE)
        except OSError:
            return None
        try:
            if not trusted(os.fstat(folder)):
                return None
            fd = os.open(key, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | _SAFE, dir_fd=folder)
        except OSError:
            return None
        finally:
            os.close(folder)
        with open(fd, "rb") as file:
            info = os.fstat(fd)
            if not trusted(info) or not stat.S_ISREG(info.st_mode) or not _HEAD < info.st_size < _LIMIT:
                return None
            try:
                data = file.read(_LIMIT)
            except OSError:
                return None
            with suppress(OSError):  # root's are not ours to touch
                os.utime(fd)
        body = data[_HEAD:]
        head = _MAGIC + key.encode() + b"\n" + digest(body).hexdigest().encode() + b"\n"
        return body if data[:_HEAD] == head else None

    def store(self, key: str, body: bytes) -> int:
        """Keeps ``body``; readers see it whole or not at all. How many bytes the file has, 0 where there is none."""
        if not self._user:
            return 0
        # What root puts into the system's place is for everybody.
        public = self._user == self._system
        try:
            os.makedirs(self._user, mode=0o755 if public else 0o700, exist_ok=True)
            if not self.usable():
                return 0
            name = os.path.join(self._user, part_name())
            fd = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _SAFE, 0o600)
        except OSError:
            return 0
        try:
            with open(fd, "wb") as file:
                if public:
                    os.chmod(name, 0o644)
                file.write(_MAGIC + key.encode() + b"\n" + digest(body).hexdigest().encode() + b"\n" + body)
            os.replace(name, os.path.join(self._user, key))
        except OSError:
            with suppress(OSError):
                os.unlink(name)
            return 0
        self._names.get(self._user, set()).add(key)
        return _HEAD + len(body)
