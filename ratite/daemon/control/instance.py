"""One machine instance as the control plane sees it.

    starting ──greeting, capabilities──> running ──end()──> ending ──its process or daemon is gone──> ended
        └──────────────────────── its process is gone ─────────────────────────────────────────────────┘

Everything goes over its first monitor, which is the control plane's alone: events, `quit`, and the sockets of further
monitors and of consoles, by getfd.  What its process prints is kept, the newest bytes of it.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from ratite.daemon.control.birth import OVERHEAD
from ratite.daemon.control.cgroups import RETRY_SECONDS, TRIES
from ratite.daemon.control.qmplink import LinkClosed, QmpLink

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop, TimerHandle

    from ratite.daemon.control.cgroups import Group, Groups
    from ratite.daemon.log import Log

STARTING, RUNNING, ENDING, ENDED = "starting", "running", "ending", "ended"

# After `quit` an instance has two seconds by its own watchdog.
END_SECONDS = 4.0
STATUS_SECONDS = 1.0
LOG_DEFAULT = 1 << 16
LOG_CHUNK = 1 << 14
# A pipe's capacity.
LOG_LAST = 1 << 16

Publish = Callable[["Instance", str, dict[str, Any], Mapping[str, int]], None]


class Instance:
    """See the module's head.  `publish(instance, event, data, timestamp)` gets its events."""

    def __init__(
        self, name: str, loop: AbstractEventLoop, log: Log, limits: Mapping[str, int], in_process: bool, publish: Publish
    ) -> None:
        self.name = name
        self.limits = limits
        self.in_process = in_process
        self.state = STARTING
        self.created = time.time()
        # Whether it goes on when its guest shuts down.
        self.stays = False
        self.pid = os.getpid() if in_process else 0
        self.events = 0
        self.log_bytes = 0
        # Its end: reason, status, signal, log.
        self.ended: asyncio.Future[dict[str, Any]] = loop.create_future()
        self._loop = loop
        self._log = log
        self._publish = publish
        self._kept = bytearray()
        self._log_fd = -1
        self._pidfd = -1
        self._why = ""
        self._fd_count = 0
        self._patience: TimerHandle | None = None
        self._group: Group | None = None
        self._link: QmpLink | None = None
        self._shared: QmpLink | None = None

    # -- birth

    def adopt(self, sock: socket.socket) -> QmpLink:
        """Its first monitor is at the other end of this socket."""
        if self._patience is not None and self.state == STARTING:
            # The link before was never a child's: another try.
            self._patience.cancel()
            self._patience = None
        link = self._link = QmpLink(sock, self._loop, self._event, lambda: self._link_gone(link))
        return link

    def born(self, pid: int, pidfd: int) -> None:
        """It has a process."""
        self.pid, self._pidfd = pid, pidfd
        self._loop.add_reader(pidfd, self._process_gone)
        if self._why == "killed":
            self._kill()

    def join(self, groups: Groups | None) -> Group | None:
        """A group for its processes, which it enters first of all.  OSError."""
        if groups is not None:
            self._drop_group()
            self._group = groups.make(self.limits, OVERHEAD)
        return self._group

    def joined(self) -> None:
        """It is in its group, or will never be."""
        if self._group is not None:
            self._group.close()

    def _drop_group(self, tries: int = TRIES) -> None:
        """With whom it has left behind."""
        group, self._group = self._group, None
        if group is not None and not group.remove():
            self._remove_later(group, tries)

    def _remove_later(self, group: Group, tries: int) -> None:
        def again() -> None:
            if not group.remove() and tries > 1:
                self._remove_later(group, tries - 1)

        self._loop.call_later(RETRY_SECONDS, again)

    def _link_gone(self, link: QmpLink) -> None:
        """It ends now, as a daemon whose first monitor is gone; who doesn't is killed."""
        if link is self._link:
            self._be_patient()

    def watch_log(self, fd: int) -> None:
        """What its process prints can be read here."""
        os.set_blocking(fd, False)
        self._log_fd = fd
        self._loop.add_reader(fd, self._read_log)

    @property
    def link(self) -> QmpLink:
        """The control plane's own monitor.  LinkClosed."""
        if self._link is None or self._link.closed:
            raise LinkClosed
        return self._link

    # -- further monitors, consoles

    async def open_monitor(self) -> QmpLink:
        """Another monitor.  LinkClosed; LinkBusy; QmpRefusal."""
        ours, theirs = socket.socketpair()
        try:
            await self._hand_over(theirs, "monitor-add", {})
        except BaseException:
            ours.close()
            raise
        return QmpLink(ours, self._loop)

    async def shared_monitor(self) -> QmpLink:
        """The monitor of all that have none of their own."""
        if self._shared is None or self._shared.closed:
            made = await self.open_monitor()
            if self._shared is None or self._shared.closed:
                self._shared = made
            else:
                made.close()
        return self._shared

    async def open_console(self, chardev: str) -> socket.socket:
        """Our end of a socket that is attached to a chardev.  LinkClosed; QmpRefusal."""
        ours, theirs = socket.socketpair()
        try:
            await self._hand_over(theirs, "chardev-attach", {"id": chardev})
        except BaseException:
            ours.close()
            raise
        ours.setblocking(False)
        return ours

    async def _hand_over(self, theirs: socket.socket, command: str, arguments: dict[str, Any]) -> None:
        self._fd_count += 1
        name = f"control{self._fd_count}"
        with theirs:
            link = self.link
            given = link.execute("getfd", {"fdname": name}, fds=(theirs.fileno(),))
            done = link.execute(command, {**arguments, "fdname": name})
            await given
        await done

    # -- events

    def _event(self, message: dict[str, Any]) -> None:
        self.events += 1
        data = message.get("data", {})
        if message["event"] == "SHUTDOWN" and not self._why and not (self.stays and data.get("guest")):
            reason = data.get("reason", "")
            self._why = "shutdown" if data.get("guest") else "quit" if reason == "host-qmp-quit" else "killed"
        self._publish(self, message["event"], data, message["timestamp"])

    # -- the end

    async def end(self, force: bool = False) -> dict[str, Any]:
        """End it, or wait for its end if that has begun; how it ended."""
        if self.state in (STARTING, RUNNING):
            self.state = ENDING
            self._why = self._why or "ended"
            if self._link is not None:
                self._link.execute("quit")
        if force:
            self._kill()
        # Who gives up waiting stops neither the others nor the end.
        self._be_patient()
        return await asyncio.shield(self.ended)

    def _be_patient(self) -> None:
        """It ends by itself now, or is killed."""
        if self.state != ENDED and self._patience is None:
            self._patience = self._loop.call_later(END_SECONDS, self._kill)

    def _kill(self) -> None:
        if self.state == ENDED:
            return
        self._why = "killed"
        if self.in_process:
            # Threads can't be killed: it is let go, and ends by itself as its monitor is gone; or never.
            self._log.warning("an instance in this process is given up", instance=self.name)
            self.finish(None)
        if self._pidfd >= 0 and hasattr(signal, "pidfd_send_signal"):
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)

    def _process_gone(self) -> None:
        """Its process is dead; the zygote, which is its parent, will tell how, if it lives."""
        self._loop.remove_reader(self._pidfd)
        self._loop.call_later(STATUS_SECONDS, self.finish, None)

    def finish(self, wait_status: int | None) -> None:
        """It is gone.  `wait_status` as waitpid has it; None: nobody knows."""
        if self.state == ENDED:
            return
        self.state = ENDED
        if self._patience is not None:
            self._patience.cancel()
        self._let_go()
        self._drop_group()
        how: dict[str, Any] = {"instance": self.name, "reason": self._why or "crashed", "log": self.log_text()}
        if wait_status is not None:
            code = os.waitstatus_to_exitcode(wait_status)
            how["status" if code >= 0 else "signal"] = abs(code)
            if code < 0 and self._why != "killed":
                how["reason"] = "crashed"
        self.ended.set_result(how)

    def _let_go(self) -> None:
        for link in (self._link, self._shared):
            if link is not None:
                link.close()
        # What the pipe holds, and no more: somebody that it has left may go on writing.
        for _ in range(LOG_LAST // LOG_CHUNK):
            self._read_log()
        for fd in (self._log_fd, self._pidfd):
            if fd >= 0:
                self._loop.remove_reader(fd)
                os.close(fd)
        self._log_fd = self._pidfd = -1

    # -- its log

    def log_text(self) -> str:
        """The end of what its process has printed."""
        return self._kept.decode("utf-8", "replace")

    def _read_log(self) -> None:
        """Some of it at a time: who prints without end gets no more of the loop than others."""
        if self._log_fd < 0:
            return
        try:
            data = os.read(self._log_fd, LOG_CHUNK)
        except (BlockingIOError, InterruptedError):
            return
        if not data:
            self._loop.remove_reader(self._log_fd)
            os.close(self._log_fd)
            self._log_fd = -1
            return
        self.log_bytes += len(data)
        self._kept += data
        excess = len(self._kept) - self.limits.get("log", LOG_DEFAULT)
        if excess > 0:
            del self._kept[:excess]

    # -- looking

    def info(self) -> dict[str, Any]:
        """InstanceInfo."""
        return {
            "instance": self.name, "state": self.state, "in-process": self.in_process, "pid": self.pid,
            "created": self.created,
        }  # fmt: skip

    def memory(self) -> dict[str, int]:
        """Its process's memory in bytes: private-memory and resident-memory, as far as the host tells."""
        if self.in_process or not self.pid:
            return {}
        found = {"private-memory": 0, "resident-memory": 0}
        try:
            with open(f"/proc/{self.pid}/smaps_rollup", encoding="ascii") as file:
                for line in file:
                    words = line.split()
                    if words[0].startswith("Private_"):
                        found["private-memory"] += int(words[1]) << 10
                    elif words[0] == "Rss:":
                        found["resident-memory"] = int(words[1]) << 10
        except OSError:
            return {}
        return found
