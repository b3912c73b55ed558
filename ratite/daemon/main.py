"""`ratited`: parse, listen, serve.  It listens before it imports what serving needs."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from ratite.daemon.options import UsageError, help_text, parse

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ratite.daemon.options import Options
    from ratite.daemon.qmp.address import Endpoint

# A vCPU thread in Python code must not keep the loop waiting for Python's default of 5 ms.
SWITCH_INTERVAL = 0.0005

# Seconds from a daemon's first breath until garbage is looked for, by when a client may have assembled its machine.
QUIET = 1.0

# A value may nest 1,024 levels, and the JSON encoder takes one of Python's for each.
RECURSION_LIMIT = 4000


def main(argv: Sequence[str] | None = None) -> int:
    """Run a daemon to its end; the exit status."""
    words = list(sys.argv[1:] if argv is None else argv)
    if words[:1] in (["-target"], ["--target"]):
        from ratite.daemon.personality.main import main as stand_in

        return stand_in("", argv=words)
    try:
        options = parse(words)
    except UsageError as error:
        print(f"ratited: {error}", file=sys.stderr)
        return 2
    if options.help:
        print(help_text(), end="")
        return 0
    if options.version:
        from ratite import __version__

        print(f"ratited {__version__}")
        return 0
    if options.control:
        return _control(options)
    if not options.qmp:
        print("ratited: give at least one --qmp ADDR or --control ADDR; see ratited --help", file=sys.stderr)
        return 2
    return _serve(options)


def _control(options: Options) -> int:
    if sys.platform == "win32":
        print("ratited: --control needs a POSIX host", file=sys.stderr)
        return 1
    settle_interpreter()
    pidfile = _write_pidfile(options.pidfile)
    try:
        from ratite.daemon.control.main import serve

        return serve(options)
    except ImportError as error:
        print(f"ratited: --control needs {error.name}: {error}", file=sys.stderr)
        return 1
    finally:
        _remove_pidfile(pidfile)


def _serve(options: Options) -> int:
    from ratite.daemon.qmp.address import AddressError, open_endpoint

    endpoints: list[Endpoint] = []
    try:
        for text in options.qmp:
            endpoints.append(open_endpoint(text))
        return _run(options, endpoints)
    except (AddressError, OSError) as error:
        print(f"ratited: {error}", file=sys.stderr)
        return 1
    finally:
        for endpoint in endpoints:
            endpoint.remove()


def _run(options: Options, endpoints: list[Endpoint]) -> int:
    import gc
    from functools import partial

    # What a start makes stays: to look for garbage in it takes longer than many a part of it.
    gc.disable()
    from ratite.daemon import commands
    from ratite.daemon.daemon import Daemon
    from ratite.daemon.log import Log
    from ratite.daemon.loop import EventLoop

    settle_interpreter()
    log = Log(options.log_level, options.log_file, options.log_json)
    pidfile = _write_pidfile(options.pidfile)
    loop = EventLoop(log.callback_failed)
    try:
        daemon = Daemon(options, loop, log, endpoints, commands.MODULES)
        daemon.at_end = partial(_remove_pidfile, pidfile)
        loop.call_later(QUIET, _settled)
        return daemon.run()
    finally:
        _remove_pidfile(pidfile)
        loop.close()
        log.close()


def _settled() -> None:
    """A start and what a client wanted at once are over."""
    import threading

    from ratite.daemon import kept

    collect_garbage()
    threading.Thread(target=kept.keep, name="ratite-kept", daemon=True).start()


def collect_garbage() -> None:
    """From now on; not among what is there by now, as modules and most of a machine are."""
    import gc

    gc.freeze()
    gc.enable()


def settle_interpreter() -> None:
    """The interpreter's own settings, for a whole process."""
    sys.setswitchinterval(SWITCH_INTERVAL)
    sys.setrecursionlimit(RECURSION_LIMIT)


def _write_pidfile(path: str | None) -> str | None:
    if path is not None:
        with open(path, "w", encoding="ascii") as file:
            file.write(f"{os.getpid()}\n")
    return path


def _remove_pidfile(path: str | None) -> None:
    if path and os.path.exists(path):
        os.unlink(path)


if __name__ == "__main__":
    sys.exit(main())
