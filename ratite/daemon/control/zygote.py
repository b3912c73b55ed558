"""The zygote: a process from which instances are forked, in milliseconds since everything is imported already.

    exec'd by the control plane ──modules imported, gc.freeze()──> ready ──request──> fork ──> the child lives (birth.py)
                                                                     └── end of its socket ──> ended

It never has a thread, an event loop, an instance's socket beyond the fork, a secret (its environment is cleaned, its only
descriptor is one SEQPACKET socket) or LLVM in it.

    in    {"id": N, ...birth.py's request} with descriptors
    out   {"ready": pid}   {"id": N, "pid": pid} with a pidfd   {"id": N, "error": text}
          {"exited": pid, "status": as waitpid has it}
"""

from __future__ import annotations

import gc
import json
import os
import select
import signal
import socket
import sys
import traceback
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ratite.qapi.resolved import ResolvedSchema

REQUEST_MAX = 1 << 16
FDS_MAX = 64
CRASHED = 70


def main(arguments: Sequence[str]) -> int:
    """`FD PATTERN…`: the socket, and what the control plane was told to allow."""
    sock = socket.socket(fileno=int(arguments[0]))
    schema = _import_everything(list(arguments[1:]))
    woken, waker = socket.socketpair()
    for end in (woken, waker):
        end.setblocking(False)
    signal.set_wakeup_fd(waker.fileno(), warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda number, frame: None)
    # Those who end the control plane by ^C mean it, and it ends us.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    gc.collect()
    gc.disable()
    gc.freeze()
    with suppress(BrokenPipeError, ConnectionResetError):
        _tell(sock, {"ready": os.getpid()})
        return _serve(sock, (woken, waker), schema)
    return 0


def _import_everything(allow: list[str]) -> ResolvedSchema:
    """All that an instance may need, but for what generates code."""
    import resource

    import structlog

    import ratite.core.machine
    import ratite.daemon.control.birth
    import ratite.daemon.log
    import ratite.daemon.loop
    import ratite.daemon.main
    import ratite.daemon.qmp.address
    from ratite.core.objects.registry import TypeRegistry
    from ratite.daemon import commands
    from ratite.daemon.views import load_schema

    del resource, structlog
    commands.load_all()
    sys.setswitchinterval(ratite.daemon.main.SWITCH_INTERVAL)
    sys.setrecursionlimit(ratite.daemon.main.RECURSION_LIMIT)
    registry = TypeRegistry(allow=allow)
    for row in registry.types(abstract=False):
        # What can't be loaded is told by the instance that wants it.  A plug-in is its own business.
        if row.dist == "ratite":
            with suppress(Exception):
                registry.load(row.name)
    return load_schema()


def _serve(sock: socket.socket, wakers: tuple[socket.socket, socket.socket], schema: ResolvedSchema) -> int:
    poller = select.poll()
    poller.register(sock, select.POLLIN)
    poller.register(wakers[0], select.POLLIN)
    while True:
        for fd, _events in poller.poll():
            if fd != sock.fileno():
                with suppress(BlockingIOError):
                    wakers[0].recv(4096)
                _reap(sock)
                continue
            data, fds, _flags, _address = socket.recv_fds(sock, REQUEST_MAX, FDS_MAX)
            if not data:
                return 0
            _fork(sock, json.loads(data), fds, wakers, schema)


def _fork(
    sock: socket.socket, request: dict[str, Any], fds: list[int], wakers: tuple[socket.socket, ...], schema: ResolvedSchema
) -> None:
    try:
        pid = os.fork()
    except OSError as error:
        _tell(sock, {"id": request["id"], "error": f"fork: {error.strerror}"})
        pid = -1
    if pid == 0:
        _be_born(sock, request, fds, wakers, schema)
    for fd in fds:
        os.close(fd)
    if pid > 0:
        pidfd = os.pidfd_open(pid)
        _tell(sock, {"id": request["id"], "pid": pid}, (pidfd,))
        os.close(pidfd)


def _be_born(
    sock: socket.socket, request: dict[str, Any], fds: list[int], wakers: tuple[socket.socket, ...], schema: ResolvedSchema
) -> None:
    """The child's side; never returns."""
    status = CRASHED
    try:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        for end in (sock, *wakers):
            end.close()
        from ratite.daemon.control import birth

        status = birth.live(request, fds, schema)
    except BaseException:
        traceback.print_exc()
    finally:
        with suppress(Exception):
            sys.stderr.flush()
        # Nothing of the zygote's is to be torn down here.
        os._exit(status)


def _reap(sock: socket.socket) -> None:
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return
        _tell(sock, {"exited": pid, "status": status})


def _tell(sock: socket.socket, message: dict[str, Any], fds: Sequence[int] = ()) -> None:
    socket.send_fds(sock, [json.dumps(message).encode()], fds)


if __name__ == "__main__":
    # Run by its path and not by -m, which would trust the folder that the control plane was started in.
    sys.path[:] = sys.argv[1].split(os.pathsep)
    sys.exit(main(sys.argv[2:]))
