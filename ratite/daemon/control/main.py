"""`ratited --control`: set up, serve until told to end, end every instance.

    SIGTERM, SIGINT   end: nothing new is accepted, instances are ended, at most five seconds
    SIGHUP            read the token file again
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import stat
import sys
import threading
from contextlib import suppress
from typing import TYPE_CHECKING

from ratite.daemon.control import cgroups
from ratite.daemon.control.gate import Gate, GateError
from ratite.daemon.control.plane import ControlPlane, Settings
from ratite.daemon.control.settings import SettingsError, read_settings
from ratite.daemon.log import Log
from ratite.daemon.qmp.address import AddressError, Endpoint, open_endpoint
from ratite.qapi.rendezvous import control_path

if TYPE_CHECKING:
    from ssl import SSLContext

    from ratite.daemon.options import Options

FIRST_PASSED_FD = 3
END_SECONDS = 5.0
WATCHDOG_SECONDS = 2.0


def serve(options: Options) -> int:
    """The control plane's life; the exit status."""
    if sys.platform == "win32":
        print("ratited: --control needs a POSIX host", file=sys.stderr)
        return 1
    log = Log(options.log_level, options.log_file, options.log_json)
    endpoints: list[Endpoint] = []
    try:
        gate = Gate(options.token_file, options.host_name)
        tls = _tls(options)
        _open_many_files()
        settings = read_settings(options, cgroups.take())
        for text in options.control:
            endpoints += _open(text)
        return asyncio.run(_serve(settings, log, gate, tls, endpoints))
    except (AddressError, GateError, SettingsError, OSError) as error:
        print(f"ratited: {error}", file=sys.stderr)
        return 1
    finally:
        for endpoint in endpoints:
            endpoint.remove()
        log.close()


async def _serve(settings: Settings, log: Log, gate: Gate, tls: SSLContext | None, endpoints: list[Endpoint]) -> int:
    from ratite.daemon.control.server import ControlServer

    loop = asyncio.get_running_loop()
    plane = ControlPlane(loop, log, settings)
    plane.nursery.start()
    server = ControlServer(plane, gate, tls)
    await server.start()
    told = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, told.set)
    loop.add_signal_handler(signal.SIGHUP, _reload, gate, log)
    try:
        for endpoint in endpoints:
            await server.listen(endpoint)
        _notify("READY=1")
        await told.wait()
        _notify("STOPPING=1")
    finally:
        await plane.close(END_SECONDS)
        await server.close()
        # A machine in this process that hangs keeps its threads, and nobody waits for these.
        watchdog = threading.Timer(WATCHDOG_SECONDS, os._exit, (0,))
        watchdog.daemon = True
        watchdog.start()
    return 0


def _open_many_files() -> None:
    """Each instance takes a few descriptors: as many as the kernel lets us have."""
    with suppress(ImportError, ValueError, OSError):
        import resource

        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _reload(gate: Gate, log: Log) -> None:
    try:
        gate.reload()
        log.info("the token file was read again")
    except GateError as error:
        log.error("the token stays as it was", reason=str(error))


def _tls(options: Options) -> SSLContext | None:
    if options.tls_cert is None:
        return None
    import ssl

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(options.tls_cert, options.tls_key)
    except (OSError, ssl.SSLError) as error:
        raise GateError(f"--tls-cert, --tls-key: {error}") from None
    return context


def _open(text: str) -> list[Endpoint]:
    """The sockets of one --control.  AddressError."""
    if text == "systemd":
        return _passed()
    return [open_endpoint(main_address() if text == "default" else text)]


def main_address() -> str:
    """Where everybody looks for a user's control plane; makes its folder.  AddressError."""
    path = control_path()
    _make_folder(os.path.dirname(path))
    return f"unix:{path}"


def _passed() -> list[Endpoint]:
    """The sockets that systemd has opened for us (sd_listen_fds(3))."""
    if os.environ.get("LISTEN_PID") != str(os.getpid()):
        raise AddressError("address 'systemd': no sockets were passed to this process (LISTEN_PID is not its id)")
    count = int(os.environ.get("LISTEN_FDS", "0"))
    found = []
    for fd in range(FIRST_PASSED_FD, FIRST_PASSED_FD + count):
        os.set_inheritable(fd, False)
        found.append(open_endpoint(f"fd:{fd}"))
    for name in ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"):
        os.environ.pop(name, None)
    return found


def _make_folder(folder: str) -> None:
    """A folder of ours alone, for the socket that is where everybody looks.  AddressError."""
    with suppress(FileExistsError):
        os.makedirs(folder, mode=0o700)
    facts = os.lstat(folder)
    if not stat.S_ISDIR(facts.st_mode) or facts.st_uid != os.getuid() or stat.S_IMODE(facts.st_mode) & 0o022:
        raise AddressError(f"folder {folder!r} must be ours, and nobody else may write to it")


def _notify(state: str) -> None:
    """Tell systemd (sd_notify(3)), if it listens."""
    place = os.environ.get("NOTIFY_SOCKET")
    if place:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock, suppress(OSError):
            sock.sendto(state.encode(), "\0" + place[1:] if place.startswith("@") else place)
