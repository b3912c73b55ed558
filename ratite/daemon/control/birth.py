"""What a forked instance does first: its own session, files, limits and log; then its own loop and daemon.

    request   {"options": {...}, "limits": {...}, "dirs": [[name, path, writable]], "permissions": [...], "grouped": bool}
    files     its monitor, its log, the cgroup.procs of its group if `grouped`, then a directory for each of `dirs`

Its first monitor is the control plane's; when that is gone, so is the instance.
"""

from __future__ import annotations

import gc
import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ratite.qapi.resolved import ResolvedSchema

# Bytes that an instance may take besides its guest's memory: Python, and what it compiles.
OVERHEAD = 4 << 30


def live(request: Mapping[str, Any], fds: Sequence[int], schema: ResolvedSchema) -> int:
    """The instance's life, in a process of its own; its exit status."""
    from ratite.core.hostfiles import ConfinedFiles, Root
    from ratite.daemon import commands
    from ratite.daemon.daemon import Daemon
    from ratite.daemon.log import Log
    from ratite.daemon.loop import EventLoop
    from ratite.daemon.options import Options
    from ratite.daemon.qmp.address import open_endpoint

    monitor, log_fd, *dirs = fds
    os.setsid()
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    os.dup2(log_fd, 1)
    os.dup2(log_fd, 2)
    if request["grouped"]:
        procs = dirs.pop(0)
        os.write(procs, b"0")
        os.close(procs)
    for fd in (null, log_fd):
        os.close(fd)
    _limit(request["limits"])
    files = ConfinedFiles(
        [Root(name, path, writable, fd) for (name, path, writable), fd in zip(request["dirs"], dirs, strict=True)],
        request["permissions"],
    )
    options = Options(**request["options"])
    endpoint = open_endpoint(f"fd:{monitor},server=off")
    gc.enable()
    log = Log(options.log_level)
    loop = EventLoop(log.callback_failed)
    daemon = Daemon(options, loop, log, [endpoint], commands.MODULES, schema=schema, tied=True,
                    files=files, limits=request["limits"])  # fmt: skip
    status = daemon.run()
    log.close()
    return status


def _limit(limits: Mapping[str, int]) -> None:
    """The limits that the kernel holds for a process."""
    import resource

    if "files" in limits:
        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        wanted = limits["files"] if hard == resource.RLIM_INFINITY else min(limits["files"], hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, wanted))
    if "ram" in limits:
        # A backstop: guest memory is checked before it is made, this is all else that the process takes.
        most = limits["ram"] + OVERHEAD
        resource.setrlimit(resource.RLIMIT_DATA, (most, most))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
