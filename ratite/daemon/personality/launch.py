"""From a `Start` to a daemon that serves: background, sockets, pidfile, the commands, and only then the monitors."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from ratite.daemon.personality.syntax import CommandLineError
from ratite.qapi.errors import QmpError

if TYPE_CHECKING:
    from ratite.daemon.daemon import Daemon
    from ratite.daemon.log import Log
    from ratite.daemon.personality.background import Background
    from ratite.daemon.personality.start import MonitorAt, Start, Step
    from ratite.daemon.qmp.address import Endpoint


class Launch:
    """One start.  `run` ends with the daemon."""

    def __init__(self, start: Start, tell: Callable[[str], None]) -> None:
        self._start = start
        self._tell = tell
        self._background: Background | None = None
        self._endpoints: list[Endpoint] = []

    def run(self) -> int:
        """The exit status.  CommandLineError."""
        if self._start.background:
            from ratite.daemon.personality.background import Background

            self._background = Background.begin()
        try:
            self._open_monitors()
            return self._serve()
        finally:
            for endpoint in self._endpoints:
                endpoint.remove()

    # -- monitors at sockets

    def _open_monitors(self) -> None:
        """The sockets exist before anything else is done; they are served when the machine is there."""
        from ratite.daemon.qmp.address import AddressError, open_endpoint

        for monitor in self._start.monitors:
            step = next(step for step in self._start.steps if step.makes("chardev-add", monitor.chardev))
            try:
                self._endpoints.append(open_endpoint(_address_of(step, monitor, self._start)))
            except AddressError as error:
                raise CommandLineError(f"{step.written}: {error}") from None
            self._start.steps.remove(step)

    # -- the daemon

    def _serve(self) -> int:
        import gc
        from functools import partial

        gc.disable()
        from ratite.daemon.main import import_asyncio, settle_interpreter

        asyncio = import_asyncio()
        from ratite.daemon import commands
        from ratite.daemon.daemon import Daemon, StandIn
        from ratite.daemon.log import Log

        start, options = self._start, self._start.options
        settle_interpreter()
        try:
            log = Log(options.log_level, options.log_file, options.log_json)
        except OSError as error:
            raise CommandLineError(f"Error opening logfile {options.log_file}: {error.strerror}") from None
        self._warn_of_age(log)
        remove_pidfile = partial(_remove_pidfile, _write_pidfile(options.pidfile))
        loop = asyncio.SelectorEventLoop()
        try:
            stand_in = StandIn(start.target, start.empty and not start.preconfig)
            daemon = Daemon(options, loop, log, (), commands.MODULES, stand_in=stand_in)
            daemon.at_end = remove_pidfile
            gc.freeze()
            gc.enable()
            if start.empty and not start.preconfig:
                self._ready(daemon)
            else:
                from ratite.daemon.personality.startup import Startup

                loop.call_soon(Startup(daemon, start, self._ready, self._failed).begin)
            return daemon.run()
        finally:
            remove_pidfile()
            loop.close()

    def _ready(self, daemon: Daemon) -> None:
        if self._background is not None:
            self._background.release(keep_output=False)
        daemon.open(self._endpoints)

    def _failed(self, daemon: Daemon, step: Step | None, error: QmpError) -> None:
        self._tell(f"{step.written}: {error.desc}" if step is not None and step.written else error.desc)
        daemon.fail(1)

    def _warn_of_age(self, log: Log) -> None:
        if self._start.stale:
            log.warning("this shim is of another version; renew it", command=self._start.stale)


def _address_of(step: Step, monitor: MonitorAt, start: Start) -> str:
    backend: dict[str, Any] = step.arguments["backend"]
    data = backend["data"]
    if backend["type"] != "socket" or not monitor.control:
        raise CommandLineError(f"{monitor.written}: only QMP at sockets is served yet")
    address = data["addr"]
    place: dict[str, Any] = address["data"]
    server = f"server={'on' if data['server'] else 'off'}"
    if address["type"] == "unix":
        return f"unix:{place['path']},{server}"
    if address["type"] == "fd":
        return f"fd:{start.fds.pop(place['str'])},{server}"
    return f"tcp:{place['host']}:{place['port']},{server}"


def _write_pidfile(path: str | None) -> str:
    if not path:
        return ""
    path = os.path.abspath(path)
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise CommandLineError(f"cannot create PID file: Could not create '{path}': {error.strerror}") from None
    with open(fd, "w", encoding="ascii") as file:
        file.write(f"{os.getpid()}\n")
    return path


def _remove_pidfile(path: str) -> None:
    if path:
        with suppress(FileNotFoundError):
            os.unlink(path)


