"""What the host can give: asked before anything is allocated, so that a wish too large is an error and not an OOM kill.

Sources: /proc/meminfo, /proc/sys/vm/overcommit_memory, the cgroup's memory.max, RLIMIT_AS.  What a host doesn't
tell is no limit.  Memory that was promised but never written doesn't count as used by the host: who asks says how much
is promised already (`held`), and that which the host knows of (our resident or mapped pages) is not counted twice.
"""

from __future__ import annotations

import os
import sys

from ratite.qapi.errors import GenericError

ADDRESS_SPACE = 1 << 47  # what user space of a 64-bit host can map at most


def _text(path: str) -> str:
    # No pathlib: machines are made in a few milliseconds, and it takes three to import.
    with open(path, encoding="ascii") as file:
        return file.read()


def _number(path: str) -> int | None:
    try:
        return int(_text(path).split()[0])
    except (OSError, ValueError, IndexError):
        return None


def _meminfo() -> dict[str, int]:
    """The fields of /proc/meminfo in bytes; empty where there is none."""
    try:
        lines = _text("/proc/meminfo").splitlines()
    except OSError:
        return {}
    found: dict[str, int] = {}
    for line in lines:
        name, _, rest = line.partition(":")
        words = rest.split()
        if words and words[0].isdigit():
            found[name] = int(words[0]) * (1024 if words[-1] == "kB" else 1)
    return found


def _system_limit() -> int | None:
    info = _meminfo()
    mode = _number("/proc/sys/vm/overcommit_memory")
    if mode == 2 and "CommitLimit" in info:
        return max(0, info["CommitLimit"] - info.get("Committed_AS", 0))
    if mode == 1 and "MemTotal" in info:
        return info["MemTotal"] + info.get("SwapTotal", 0)
    if "MemAvailable" in info:
        return info["MemAvailable"] + info.get("SwapFree", 0)
    return None


def _cgroup_limit() -> int | None:
    limit, used = _number("/sys/fs/cgroup/memory.max"), _number("/sys/fs/cgroup/memory.current")
    return None if limit is None else max(0, limit - (used or 0))


def _rlimit() -> int | None:
    if sys.platform == "win32":
        return None
    try:
        import resource
    except ImportError:
        return None
    soft = resource.getrlimit(resource.RLIMIT_AS)[0]
    if soft == resource.RLIM_INFINITY:
        return None
    return max(0, soft - _own_pages()[0])


def _own_pages() -> tuple[int, int]:
    """(mapped, resident) bytes of this process; zeros where the host doesn't tell."""
    try:
        mapped, resident = _text("/proc/self/statm").split()[:2]
        return int(mapped) * mmap_page(), int(resident) * mmap_page()
    except (OSError, ValueError):
        return 0, 0


def mmap_page() -> int:
    """The host's page size in bytes."""
    import mmap

    return mmap.PAGESIZE


def host_memory_limit(held: int = 0) -> tuple[int, str]:
    """(bytes, what limits them): how much guest memory may be set up besides the `held` bytes promised already."""
    mapped, resident = _own_pages()
    # What the host takes for used: pages once written, or (strict accounting, RLIMIT_AS) once mapped.
    strict = _number("/proc/sys/vm/overcommit_memory") == 2
    candidates = (
        (ADDRESS_SPACE, 0, "the host's address space"),
        (_system_limit(), mapped if strict else resident, "the host's available memory"),
        (_cgroup_limit(), resident, "the control group's memory.max"),
        (_rlimit(), mapped, "RLIMIT_AS"),
    )
    return min(
        (max(0, size - held + min(held, known)), why) for size, known, why in candidates if size is not None
    )


def check_host_memory(name: str, size: int, held: int = 0) -> None:
    """GenericError when the host can't give `size` bytes for `name` besides the `held` bytes promised already."""
    limit, why = host_memory_limit(held)
    if size > limit:
        besides = f" besides the {held} of other memory" if held else ""
        raise GenericError(
            f"cannot set up guest memory '{name}': Cannot allocate memory "
            f"({size} bytes wanted, {limit} allowed by {why}{besides})"
        )


def check_file_space(name: str, fd: int, path: str, size: int) -> None:
    """GenericError when the file system can't let the empty file `fd`, to people `path`, grow to `size` bytes."""
    if sys.platform == "win32":
        return
    facts = os.fstatvfs(fd)
    free = facts.f_bavail * facts.f_frsize
    if size > free:
        raise GenericError(
            f"cannot set up guest memory '{name}': no space for {size} bytes at '{path}' ({free} bytes are free)"
        )


def check_file_size(what: str, path: str, limit: int) -> int:
    """The size of the file at `path` in bytes, GenericError when it can't be asked or is above `limit`."""
    try:
        size = os.stat(path).st_size
    except OSError as error:
        raise GenericError(f"{what}: could not open '{path}': {error.strerror}") from None
    if size > limit:
        raise GenericError(f"{what}: '{path}' of {size} bytes is larger than the {limit} bytes allowed")
    return size
