"""The control plane without a socket: its instances, the zygote, who is told of events, what it allows.

Everything here is the loop's.  Events go to every `Peer` that subscribed; the text for peers that subscribed alike is
made once.
"""

from __future__ import annotations

import asyncio
import os
import re
import socket
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

from ratite.daemon.control import rpc
from ratite.daemon.control.instance import ENDED, ENDING, RUNNING, Instance
from ratite.daemon.control.nursery import BirthError, Nursery, ZygoteDied
from ratite.daemon.control.qmplink import LinkClosed
from ratite.daemon.control.rpc import RpcError

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop, Task

    from ratite.core.hostfiles import Root
    from ratite.daemon.control.cgroups import Groups
    from ratite.daemon.control.peer import Peer
    from ratite.daemon.control.qmplink import QmpLink
    from ratite.daemon.log import Log

ATTEMPTS = 3
DEFAULT_LIMITS: Mapping[str, int] = MappingProxyType({"files": 1024, "events": 1024, "log": 1 << 16})
INSTANCES_DEFAULT = 1000
# Below these a process can't even start, or nobody hears of it.
LIMIT_MIN: Mapping[str, int] = MappingProxyType({"files": 32, "events": 1, "processes": 16})
LIMIT_MAX = 1 << 62
NO_GROUPS = "it needs a cgroup (v2) that is the control plane's alone (systemd: Delegate=yes)"

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9._-]{0,63}")


class Settings(NamedTuple):
    """What the control plane was started with."""

    allow: tuple[str, ...] = ()
    limits: Mapping[str, int] = DEFAULT_LIMITS
    max_instances: int = INSTANCES_DEFAULT
    log_level: str = "warning"
    roots: tuple[Root, ...] = ()
    permissions: tuple[str, ...] = ()
    groups: Groups | None = None

    @property
    def held(self) -> Mapping[str, tuple[str, ...]]:
        """What holds each limit: "check", "rlimit", "cgroup"; nothing for one that can't be given."""
        there = () if self.groups is None else self.groups.controllers
        return {
            "ram": ("check", "rlimit", *(("cgroup",) if "memory" in there else ())), "vcpus": ("check",), "files": ("rlimit",),
            "processes": ("cgroup",) if "pids" in there else (), "events": ("check",), "log": ("check",),
        }  # fmt: skip


class ControlPlane:
    """See the module's head."""

    def __init__(self, loop: AbstractEventLoop, log: Log, settings: Settings) -> None:
        self.loop = loop
        self.log = log
        self.settings = settings
        self.instances: dict[str, Instance] = {}
        self.peers: dict[Peer, None] = {}
        self.calls: Counter[tuple[str, str]] = Counter()
        self.refused = 0
        self.started = time.monotonic()
        # The server's, once there is one: a URL of the page (PageLink).
        self.open_page: Callable[[], Awaitable[dict[str, object]]] | None = None
        self.ending = False
        self._by_pid: dict[int, Instance] = {}
        self._count = 0
        self._background: set[Task[Any]] = set()
        self.nursery = Nursery(loop, log, settings.allow, self._exited)

    # -- instances

    def find(self, name: str) -> Instance:
        """The instance; RpcError."""
        found = self.instances.get(name)
        if found is None:
            raise RpcError(rpc.NO_INSTANCE, f"there is no instance {name!r}")
        return found

    async def create(self, arguments: dict[str, Any]) -> Instance:
        """Make an instance and wait until it has greeted.  RpcError."""
        if self.ending:
            raise RpcError(rpc.NOT_PERMITTED, "the control plane is ending")
        name = self._name_for(arguments.get("instance"))
        if len(self.instances) >= self.settings.max_instances:
            raise RpcError(rpc.LIMIT_EXCEEDED, f"there are {len(self.instances)} instances, as many as there may be")
        limits = self._limits_for(arguments.get("limits", {}))
        in_process = arguments.get("in-process", False)
        instance = Instance(name, self.loop, self.log, limits, in_process, self.publish)
        instance.stays = arguments.get("no-shutdown", False)
        self.instances[name] = instance
        instance.ended.add_done_callback(lambda how: self._ended(instance, how.result()))
        options = {
            "name": name, "allow": list(self.settings.allow), "paused": arguments.get("paused", False),
            "no_shutdown": arguments.get("no-shutdown", False), "log_level": self.settings.log_level,
        }  # fmt: skip
        # A birth goes on to its end though he who wanted it may go: what is half born would be nobody's.
        birth = self._aside(self._bear(instance, options))
        try:
            await asyncio.shield(birth)
        except BirthError as error:
            raise RpcError(rpc.INSTANCE_GONE, f"instance {name!r} could not start: {error}") from None
        except LinkClosed:
            how = await asyncio.shield(instance.ended)
            raise RpcError(rpc.INSTANCE_GONE, f"instance {name!r} ended while it started", how) from None
        except BaseException:
            self.abandon(instance)
            raise
        if instance.state != RUNNING:
            raise RpcError(rpc.INSTANCE_GONE, f"instance {name!r} was ended before it had started")
        return instance

    async def _bear(self, instance: Instance, options: dict[str, Any]) -> None:
        """LinkClosed, and its process is about to end or to be killed; BirthError, and it is gone."""
        try:
            link = await self._conceive(instance, options)
        except BaseException as error:
            instance.finish(None)
            if isinstance(error, OSError):
                raise BirthError(error.strerror or str(error)) from None
            raise
        await link.ready
        if instance.state not in (ENDED, ENDING):
            instance.state = RUNNING
            self.publish(instance, "INSTANCE_CREATED", instance.info())

    async def _conceive(self, instance: Instance, options: dict[str, Any]) -> QmpLink:
        for attempt in range(ATTEMPTS):
            ours, theirs = socket.socketpair()
            with theirs:
                link = instance.adopt(ours)
                if instance.in_process:
                    self._embed(instance, options, theirs)
                    return link
                try:
                    await self._fork(instance, options, theirs)
                    return link
                except ZygoteDied:
                    link.close()
                    if attempt == ATTEMPTS - 1:
                        raise
        raise AssertionError("the last attempt returns or raises")

    async def _fork(self, instance: Instance, options: dict[str, Any], theirs: socket.socket) -> None:
        reader, writer = os.pipe()
        try:
            settings = self.settings
            request: dict[str, Any] = {
                "options": options, "limits": dict(instance.limits), "permissions": settings.permissions,
                "dirs": [(root.name, root.path, root.writable) for root in settings.roots],
            }  # fmt: skip
            group = instance.join(settings.groups)
            request["grouped"] = group is not None
            groups = () if group is None else (group.procs,)
            fds = (theirs.fileno(), writer, *groups, *(root.fd for root in settings.roots))

            def born(pid: int, pidfd: int) -> None:
                instance.born(pid, pidfd)
                self._by_pid[pid] = instance

            await self.nursery.fork(request, fds, born)
        except BaseException:
            os.close(reader)
            raise
        finally:
            os.close(writer)
            instance.joined()
        instance.watch_log(reader)

    def _embed(self, instance: Instance, options: dict[str, Any], theirs: socket.socket) -> None:
        """A daemon on this loop, with its machine's threads in this process."""
        from ratite.core.hostfiles import ConfinedFiles
        from ratite.daemon import commands
        from ratite.daemon.daemon import Daemon
        from ratite.daemon.options import Options
        from ratite.daemon.qmp.address import open_endpoint

        endpoint = open_endpoint(f"fd:{os.dup(theirs.fileno())},server=off")
        Daemon(
            Options(**options), self.loop, self.log, [endpoint], commands.MODULES, tied=True, ended=lambda: instance.finish(0),
            files=ConfinedFiles(self.settings.roots, self.settings.permissions), limits=instance.limits,
        )  # fmt: skip

    def abandon(self, instance: Instance) -> None:
        """Nobody wants it any more."""
        self._aside(instance.end(force=True))

    def _aside(self, work: Coroutine[Any, Any, Any]) -> Task[Any]:
        """A task that nobody need wait for."""
        task = self.loop.create_task(work)
        self._background.add(task)

        def done(task: Task[Any]) -> None:
            self._background.discard(task)
            if not task.cancelled():
                task.exception()

        task.add_done_callback(done)
        return task

    def _name_for(self, wanted: str | None) -> str:
        if wanted is None:
            while (name := f"i{self._count + 1}") in self.instances:
                self._count += 1
            self._count += 1
            return name
        if not _NAME.fullmatch(wanted):
            raise RpcError(rpc.INVALID_PARAMS, f"Parameter 'instance' must match {_NAME.pattern}, not {wanted!r}")
        if wanted in self.instances:
            raise RpcError(rpc.INSTANCE_EXISTS, f"there is an instance {wanted!r} already")
        return wanted

    def _limits_for(self, wanted: Mapping[str, int]) -> Mapping[str, int]:
        own = self.settings.limits
        held = self.settings.held
        for name, value in wanted.items():
            if not held[name]:
                raise RpcError(rpc.INVALID_PARAMS, f"limit {name!r} can't be held on this host: {NO_GROUPS}")
            if value > own.get(name, LIMIT_MAX):
                raise RpcError(rpc.LIMIT_EXCEEDED, f"limit {name!r} must be at most {own.get(name, LIMIT_MAX)}, not {value}")
            if value < LIMIT_MIN.get(name, 0):
                raise RpcError(rpc.INVALID_PARAMS, f"limit {name!r} must be {LIMIT_MIN[name]} or more, not {value}")
        return MappingProxyType({**own, **wanted})

    def _exited(self, pid: int, status: int) -> None:
        instance = self._by_pid.get(pid)
        if instance is not None:
            instance.finish(status)

    def _ended(self, instance: Instance, how: dict[str, Any]) -> None:
        self.instances.pop(instance.name, None)
        self._by_pid.pop(instance.pid, None)
        for peer in list(self.peers):
            peer.instance_ended(instance)
        self.log.info("instance ended", **{key: how[key] for key in how if key != "log"})
        self.publish(instance, "INSTANCE_ENDED", how)

    # -- events

    def publish(self, instance: Instance, event: str, data: dict[str, Any], timestamp: Mapping[str, int] | None = None) -> None:
        """Tell everybody who subscribed."""
        if timestamp is None:
            seconds, nanoseconds = divmod(time.time_ns(), 1_000_000_000)
            timestamp = {"seconds": seconds, "microseconds": nanoseconds // 1000}
        params: dict[str, Any] = {"instance": instance.name, "event": event, "timestamp": timestamp}
        if data:
            params["data"] = data
        texts: dict[tuple[int, ...], str] = {}
        for peer in list(self.peers):
            numbers = peer.wanted(instance.name, event)
            if not numbers:
                continue
            text = texts.get(numbers)
            if text is None:
                text = texts[numbers] = rpc.notification("event", {"subscriptions": numbers, **params})
            peer.event(text, instance.limits.get("events", 0))

    def subscribers(self, name: str) -> int:
        """How many connections get events of an instance."""
        return sum(peer.subscribed(name) for peer in self.peers)

    # -- the end

    async def close(self, seconds: float) -> None:
        """Make nothing more, and end every instance; those that take longer end when they see us gone."""
        self.ending = True
        endings = [self.loop.create_task(instance.end()) for instance in self.instances.values()]
        if endings:
            await asyncio.wait(endings, timeout=seconds)
        self.nursery.close()
