"""The netdev `user`: the host's network without privileges, by passt, a program of its own beside the daemon.

passt serves one stream of frames on a socket that it is given; it goes when the socket is closed.  Without the program
the type isn't to be had, and the error says so.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from typing import IO, TYPE_CHECKING, Any, ClassVar

from ratite.core import log
from ratite.core.backends import sockets
from ratite.core.backends.net.stream import StreamNetdev
from ratite.core.hostfiles import EXEC, NET
from ratite.qapi.errors import GenericError

if TYPE_CHECKING:
    from ratite.core.backends.net.set import NetdevSet

PROGRAM = "passt"
MTU = 1500


class UserNetdev(StreamNetdev):
    """The host's network by passt."""

    TYPE: ClassVar[str] = "netdev-user"

    def __init__(self, id: str, owner: NetdevSet, options: Mapping[str, Any]) -> None:
        super().__init__(id, owner, sockets.Address("fd", "-1"), False, events=False)
        self._arguments = passt_arguments(options)
        self._process: subprocess.Popen[bytes] | None = None
        self._said: IO[bytes] | None = None

    def open(self) -> None:
        self.owner.files.need(EXEC, "netdev 'user'")
        self.owner.files.need(NET, "netdev 'user'")
        program = shutil.which(PROGRAM)
        if program is None:
            raise GenericError("netdev type 'user' needs the program 'passt', which isn't installed on this host")
        if not hasattr(socket, "AF_UNIX"):
            raise GenericError("netdev type 'user' needs a POSIX host")
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        said = tempfile.TemporaryFile()  # noqa: SIM115  # as long as the process
        command = [program, "--foreground", "--fd", str(theirs.fileno()), *self._arguments]
        try:
            self._process = subprocess.Popen(
                command, pass_fds=(theirs.fileno(),), stdin=subprocess.DEVNULL, stdout=said, stderr=said, start_new_session=True
            )
        except OSError as error:
            ours.close()
            said.close()
            raise GenericError(f"netdev '{self.id}': '{program}' can't be started: {error.strerror}") from None
        finally:
            theirs.close()
        self._said = said
        self._take(ours)
        self.owner.io.add(self)

    def _peer_left(self) -> None:
        super()._peer_left()
        if not self._closed:
            log.error("passt ended", netdev=self.id, said=self._last_words())
        self._end()

    def _shut(self) -> None:
        super()._shut()
        self._end()

    def _last_words(self) -> str:
        if self._said is None:
            return ""
        with contextlib.suppress(OSError):
            self._said.seek(max(0, os.fstat(self._said.fileno()).st_size - 300))
            return self._said.read(300).decode("utf-8", "replace").strip()
        return ""

    def _end(self) -> None:
        """On the IO thread: the process is gone, and its remains with it."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()
        if self._said is not None:
            self._said.close()
            self._said = None


def passt_arguments(options: Mapping[str, Any]) -> Sequence[str]:
    """passt's arguments for the options of netdev_add; GenericError for one that can't be."""
    made = ["--quiet", "--mtu", str(MTU)]
    ipv4, ipv6 = options.get("ipv4", True), options.get("ipv6", True)
    if not ipv4 and not ipv6:
        raise GenericError("IPv4 and IPv6 are both disabled")
    if not ipv6:
        made.append("--ipv4-only")
    if not ipv4:
        made.append("--ipv6-only")
    if "dns" in options:
        made += ["--dns", options["dns"]]
    for entry in options.get("dnssearch", ()):
        made += ["--search", entry["str"]]
    ports: dict[str, list[str]] = {"--tcp-ports": [], "--udp-ports": []}
    for entry in options.get("hostfwd", ()):
        option, spec = _forward(entry["str"])
        ports[option].append(spec)
    for option, specs in ports.items():
        made += [option, ",".join(specs) or "none"]
    for value in made:
        if "\0" in value:
            raise GenericError("a NUL character can't stand in an option of netdev type 'user'")
    return made


def _forward(text: str) -> tuple[str, str]:
    """"tcp:ADDR:PORT-:GUESTPORT" as QEMU spells it → passt's option and its value."""
    error = GenericError(f"Invalid host forwarding rule '{text}': it must be [tcp|udp]:[hostaddr]:hostport-:guestport")
    kind, _, rest = text.partition(":")
    host, dash, guest = rest.rpartition("-")
    addr, colon, port = host.rpartition(":")
    guest_addr, guest_colon, guest_port = guest.rpartition(":")
    if kind not in ("", "tcp", "udp") or not dash or not colon or not guest_colon or guest_addr:
        raise error
    if not all(number.isdecimal() and 0 < int(number) < 65536 for number in (port, guest_port)):
        raise error
    option = "--udp-ports" if kind == "udp" else "--tcp-ports"
    return option, f"{addr}/{port}:{guest_port}" if addr else f"{port}:{guest_port}"
