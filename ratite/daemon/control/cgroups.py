"""Control groups (cgroup v2): an instance with all its processes and threads in one, where the control plane may make some.

    the control plane's own group, delegated to it (systemd: Delegate=yes), nobody else in it
    ├── control     the control plane and the zygote move here, since a group with children has no processes
    └── i1, i2, …   one for each instance: pids.max, memory.max; what is left at its end is killed with it

Nothing is taken that isn't the control plane's alone; then there are no groups, and `--limit processes` can't be had.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress

MOUNT = "/sys/fs/cgroup"
OWN = "control"
CONTROLLERS = ("memory", "pids")
# rmdir of a group whose processes have been killed, until the kernel has seen them off.
TRIES = 50
RETRY_SECONDS = 0.1


class Group:
    """One instance's.  `procs`: a descriptor; a process that writes "0" to it is in the group."""

    def __init__(self, path: str, limits: Mapping[str, int], overhead: int, controllers: tuple[str, ...]) -> None:
        """OSError."""
        self.path = path
        os.mkdir(path)
        try:
            if "pids" in controllers and "processes" in limits:
                _write(f"{path}/pids.max", str(limits["processes"]))
            if "memory" in controllers and "ram" in limits:
                _write(f"{path}/memory.max", str(limits["ram"] + overhead))
            self.procs = os.open(f"{path}/cgroup.procs", os.O_WRONLY | os.O_CLOEXEC)
        except BaseException:
            with suppress(OSError):
                os.rmdir(path)
            raise

    def close(self) -> None:
        """Nobody joins any more."""
        if self.procs >= 0:
            os.close(self.procs)
            self.procs = -1

    def remove(self) -> bool:
        """Kill who is in it, and remove it; whether it is gone."""
        self.close()
        with suppress(OSError):
            _write(f"{self.path}/cgroup.kill", "1")
        try:
            os.rmdir(self.path)
        except FileNotFoundError:
            return True
        except OSError:
            return False
        return True


class Groups:
    """Makes them, below `place`."""

    def __init__(self, place: str, controllers: tuple[str, ...]) -> None:
        self._place = place
        self.controllers = controllers
        self._count = 0

    def make(self, limits: Mapping[str, int], overhead: int) -> Group:
        """A group with `limits` ("processes"; "ram", to which `overhead` bytes are added).  OSError."""
        while True:
            self._count += 1
            # Somebody before us, who came to a bad end, may have left some.
            with suppress(FileExistsError):
                return Group(f"{self._place}/i{self._count}", limits, overhead, self.controllers)


def take(mount: str = MOUNT, membership: str = "/proc/self/cgroup") -> Groups | None:
    """The groups that are ours to make; None where there are none."""
    try:
        with open(membership, encoding="ascii") as file:
            ours = [line.removeprefix("0::").rstrip("\n") for line in file if line.startswith("0::")]
        place = f"{mount}{ours[0].rstrip('/')}"
        with open(f"{place}/cgroup.controllers", encoding="ascii") as file:
            there = file.read().split()
        with open(f"{place}/cgroup.procs", encoding="ascii") as file:
            members = file.read().split()
    except (OSError, IndexError, UnicodeDecodeError):
        return None
    controllers = tuple(name for name in CONTROLLERS if name in there)
    if not controllers or members != [str(os.getpid())] or not os.access(place, os.W_OK):
        return None
    try:
        with suppress(FileExistsError):
            os.mkdir(f"{place}/{OWN}")
        _write(f"{place}/{OWN}/cgroup.procs", "0")
        _write(f"{place}/cgroup.subtree_control", " ".join(f"+{name}" for name in controllers))
    except OSError:
        with suppress(OSError):
            _write(f"{place}/cgroup.procs", "0")
        with suppress(OSError):
            os.rmdir(f"{place}/{OWN}")
        return None
    return Groups(place, controllers)


def _write(path: str, text: str) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, text.encode("ascii"))
    finally:
        os.close(fd)
