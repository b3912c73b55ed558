"""What `ratited` imports, kept in the user's cache as an image of modules (personality/image.py): a start finds and opens 200
files less.

    start: use() ──> modules come from the image, as far as it goes ──> a second later: keep() ──> what it lacked is added

Its name is a digest over the interpreter, where it looks for modules and where ratite lies; it counts only if it and its folder
can be trusted, as all that is kept there.
"""

from __future__ import annotations

import os
import sys

from ratite.daemon.personality import image
from ratite.qapi.kept import key_of, part_name, trusted, user_folder

FOLDER = "modules"
_RATITE, _LIBRARY = (os.path.dirname(file) + os.sep for file in (os.path.dirname(__file__), os.__file__))
_SAFE = os.O_RDONLY | getattr(os, "O_DIRECTORY", 0) | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)


def name() -> str:
    """Of this interpreter's image."""
    # The first is the folder that it was started in, or the program's.
    places = sys.path if sys.flags.safe_path else sys.path[1:]
    return key_of(b"modules", sys.version.encode(), *map(os.fsencode, (sys.executable, __file__, "\0".join(places))))


def use() -> None:
    """Import from the image from now on, if there is one."""
    folder = _folder()
    if folder is None:
        return
    try:
        finder = image.opened(name(), folder)
    finally:
        os.close(folder)
    if finder is not None:
        sys.meta_path.insert(0, finder)


def keep() -> None:
    """Have all that is imported by now in the image of the next start.  On a thread of its own; doesn't raise for what the
    file system does."""
    finder = next((finder for finder in sys.meta_path if isinstance(finder, image.Finder)), None)
    names = [name for name in tuple(sys.modules) if _ours(image.source_of(name))]
    try:
        if finder is not None and all(finder.has(name) for name in names):
            finder.touch()
        else:
            _write(image.packed(names, finder.fresh() if finder is not None else None))
    except (OSError, SyntaxError, ValueError, EOFError):
        return  # a source or the disk is gone, or somebody is at it: no image is slow, not wrong


def _ours(source: str) -> bool:
    """Whether a module is one that starts import: ratite's own or the interpreter's, none of other packages."""
    return source.startswith(_RATITE) or (source.startswith(_LIBRARY) and "-packages" not in source)


def _folder() -> int | None:
    """The folder of images, if it can be trusted."""
    place = user_folder()
    try:
        folder = os.open(os.path.join(place, FOLDER), _SAFE) if place and os.open in os.supports_dir_fd else None
    except OSError:
        return None
    if folder is not None and not trusted(os.fstat(folder)):
        os.close(folder)
        return None
    return folder


def _write(data: bytes) -> None:
    """As a whole or not at all."""
    place = user_folder()
    if not place:
        return
    os.makedirs(place, mode=0o700, exist_ok=True)
    if not trusted(os.lstat(place)):
        return
    os.makedirs(os.path.join(place, FOLDER), mode=0o700, exist_ok=True)
    folder = _folder()
    if folder is None:
        return
    part = part_name()
    try:
        fd = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_CLOEXEC", 0), 0o600, dir_fd=folder)
        try:
            with open(fd, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(fd)  # it has no checksum
            os.replace(part, name(), src_dir_fd=folder, dst_dir_fd=folder)
        except OSError:
            os.unlink(part, dir_fd=folder)
            raise
    finally:
        os.close(folder)
