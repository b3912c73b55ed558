"""What is kept on disk between runs: where, whom it is trusted from, and by what names."""

from __future__ import annotations

import os
import stat
import sys
import time

try:
    # Where hashlib has it from, whose import loads OpenSSL: a tenth of what making a machine takes.
    from _blake2 import blake2b
except ImportError:
    from hashlib import blake2b

TYPE_CHECKING = False
if TYPE_CHECKING:
    from hashlib import blake2b as Digest

PART = ".new-"  # what names of files begin with that aren't whole yet


def part_name() -> str:
    """A name that nobody has; tempfile's import takes longer than most starts have."""
    return f"{PART}{os.getpid()}-{time.monotonic_ns()}"


def digest(data: bytes = b"") -> Digest:
    """BLAKE2b of 32 bytes."""
    return blake2b(data, digest_size=32)


def key_of(*parts: bytes) -> str:
    """A digest (64 hexadecimal digits) over all that a file depends on."""
    found = digest()
    for part in parts:
        found.update(len(part).to_bytes(8, "little"))
        found.update(part)
    return found.hexdigest()


def user_folder() -> str:
    """The user's: ``$XDG_CACHE_HOME/ratite`` or ``~/.cache/ratite``; "" where there is none. A home that isn't there is
    nobody's to make, though root could."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    if not os.path.isabs(base):
        home = os.path.expanduser("~")
        base = os.path.join(home, ".cache") if os.path.isabs(home) and os.path.isdir(home) else ""
    return os.path.join(base, "ratite") if base else ""


def trusted(info: os.stat_result) -> bool:
    """Whether only root or we could have written a file or folder."""
    if sys.platform == "win32":
        return False
    return info.st_uid in (0, os.geteuid()) and not info.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
