"""From a `Start` to a daemon that serves: background, pidfile, the commands, and only then the monitors."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING

from ratite.daemon.personality.settings import user_of
from ratite.daemon.personality.syntax import CommandLineError
from ratite.qapi.errors import QmpError

if TYPE_CHECKING:
    from ratite.daemon.daemon import Daemon
    from ratite.daemon.log import Log
    from ratite.daemon.personality.background import Background
    from ratite.daemon.personality.start import Start, Step

# How the machine says which of its devices is wrong, where the option says it too.
_PLACE = re.compile(r"^/machine/(?:peripheral(?:-anon)?|unattached)/[^ ]+: (property '[^']+': )?")


class Launch:
    """One start.  `run` ends with the daemon."""

    def __init__(self, start: Start, tell: Callable[[str], None]) -> None:
        self._start = start
        self._tell = tell
        self._background: Background | None = None

    def run(self) -> int:
        """The exit status.  CommandLineError."""
        from functools import partial

        if self._start.background:
            from ratite.daemon.personality.background import Background, absolute

            for step in self._start.steps:
                if step.command == "chardev-add":
                    absolute(step.arguments["backend"])
            self._background = Background.begin()
        from ratite.daemon import commands
        from ratite.daemon.daemon import Daemon, StandIn
        from ratite.daemon.loop import EventLoop
        from ratite.daemon.main import settle_interpreter
        from ratite.daemon.personality.startup import Startup

        start, options = self._start, self._start.options
        settle_interpreter()
        log = self._open_log()
        remove_pidfile = partial(_remove_pidfile, _write_pidfile(options.pidfile))
        loop = EventLoop(log.callback_failed)
        try:
            stand_in = StandIn(start.target, start.machine, start.empty and not start.preconfig, frozenset(start.policy))
            daemon = Daemon(
                options, loop, log, (), commands.MODULES, schema=start.schema, registry=start.registry, stand_in=stand_in
            )
            daemon.at_end = remove_pidfile
            loop.call_soon(Startup(daemon, start, self._ready, self._failed).begin)
            return daemon.run()
        finally:
            remove_pidfile()
            loop.close()
            log.close()

    def _open_log(self) -> Log:
        from ratite.daemon.log import Log

        options = self._start.options
        try:
            log = Log(options.log_level, options.log_file, options.log_json)
        except OSError as error:
            raise CommandLineError(f"Error opening logfile {options.log_file}: {error.strerror}") from None
        if self._start.stale:
            log.warning("this shim is of another version; renew it", command=self._start.stale)
        return log

    def _ready(self, daemon: Daemon) -> None:
        from ratite.daemon.main import QUIET, collect_garbage

        if self._start.dump_tree:
            self._tell(f"dtb dumped to {self._start.dump_tree}. Exiting.")
            daemon.fail(0)
            return
        if self._start.user:
            from ratite.daemon import commands

            commands.load_all()  # which that user may not be able to read
            _become(self._start.user)
        if self._background is not None:
            self._background.release()
        daemon.loop.call_later(QUIET, collect_garbage)

    def _failed(self, daemon: Daemon, step: Step | None, error: QmpError) -> None:
        text = error.desc
        if step is not None:
            # What a client of chardev-add is told besides.
            text = text.removeprefix(f"Failed to add chardev '{step.arguments.get('id')}': ")
            text = _PLACE.sub("", text)
        else:
            text = self._start.about_files(text)
        self._tell(f"{step.written}: {text}" if step is not None and step.written else text)
        daemon.fail(1)


def _become(user: str) -> None:
    """Another user, for good; known by name or as UID:GID (Start checked that there is one)."""
    uid, gid = user_of(user)
    os.setgroups([])
    os.setgid(gid)
    os.setuid(uid)


def _write_pidfile(path: str | None) -> str:
    if path is None:
        return ""
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise CommandLineError(f"cannot create PID file: Could not create '{path}': {error.strerror}") from None
    with open(fd, "w", encoding="ascii") as file:
        file.write(f"{os.getpid()}\n")
    return os.path.abspath(path)


def _remove_pidfile(path: str) -> None:
    if path:
        with suppress(FileNotFoundError):
            os.unlink(path)
