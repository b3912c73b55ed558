"""Where machines that `ratite run` started are found: a folder each below $XDG_RUNTIME_DIR/ratite/machines, while they live.

    NAME/machine.json   name, pid of the daemon, what was run, when, the chardev that is its console
    NAME/qmp.sock       its QMP socket          NAME/daemon.log          NAME/starting    who is assembling it: pid, its birth

Without XDG_RUNTIME_DIR it is /tmp/ratite-UID. Folders are 0700; one that belongs to somebody else is refused, never used.
Names are taken and folders removed under a lock: else one `ratite` could remove what another has just made.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import stat
import struct
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from ratite.clients.cli.kit import Mistake, nearest
from ratite.clients.qmp import Client, QmpClientError
from ratite.qapi.rendezvous import control_path

if TYPE_CHECKING:
    from ratite.clients.cli.console import Line
    from ratite.clients.cli.remote import RemoteLine

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}\Z")
# A UNIX socket's path may have 107 bytes.
_LONGEST = 107


class Machine(NamedTuple):
    """A machine to talk to: its QMP address, "" for an instance of the control plane. `folder` and `record` where `ratite run`
    started it; `record` of an instance is the control plane's."""

    name: str
    address: str
    folder: Path | None = None
    record: Mapping[str, Any] = {}

    @property
    def remote(self) -> bool:
        """Whether it is the control plane's."""
        return not self.address

    def connect(self, timeout: float = 30.0) -> Client:
        """A QMP session. Mistake if nobody answers."""
        if self.remote:
            from ratite.clients.cli.remote import RemoteClient

            return RemoteClient(self.name, timeout)
        return connect(self.address, timeout)

    def line(self, client: Client, chardev: str) -> Line | RemoteLine:
        """A seat at its console `chardev`. CommandError."""
        if self.remote:
            from ratite.clients.cli.remote import RemoteLine

            return RemoteLine(self.name, chardev)
        from ratite.clients.cli.console import Line

        return Line(client, chardev)


def connect(address: str, timeout: float = 30.0) -> Client:
    """A QMP session at unix:PATH, tcp:HOST:PORT or PATH. Mistake if there is nobody, or nobody who speaks QMP."""
    full = address if address.startswith(("unix:", "tcp:")) else f"unix:{address}"
    try:
        return Client.connect(full, timeout, oob=True, patience=0)
    except TimeoutError:
        raise Mistake(f"{address} does not greet: no QMP socket, or one that serves somebody else") from None
    except QmpClientError as error:
        raise Mistake(str(error)) from None
    except (OSError, ValueError) as error:
        raise Mistake(f"cannot connect to {address}: {getattr(error, 'strerror', None) or error}") from None


def runtime_folder() -> Path:
    """Ours alone, made if it isn't there. Mistake if somebody else could write there."""
    place = Path(control_path()).parent
    try:
        place.mkdir(mode=0o700, parents=True, exist_ok=True)
        info = place.lstat()
    except OSError as error:
        raise Mistake(f"cannot use {place} for what runs: {error.strerror}; set XDG_RUNTIME_DIR to a folder of yours") from None
    if not stat.S_ISDIR(info.st_mode) or info.st_uid != os.getuid() or info.st_mode & 0o022:
        raise Mistake(f"{place} must be a folder that only you can write; set XDG_RUNTIME_DIR to another place")
    return place


def machines_folder() -> Path:
    """The folder of machines' folders."""
    place = runtime_folder() / "machines"
    place.mkdir(mode=0o700, exist_ok=True)
    return place


def claim(name: str, wished: bool = True) -> Path:
    """A new folder for a machine of that name, unless it is `wished` of a similar one. Mistake if one of that name lives."""
    if not _NAME.match(name):
        raise Mistake(f"a machine's name must be of letters, digits, '.', '_' and '-', 64 at most, not {name!r}")
    with _locked():
        place = machines_folder() / (name if wished else free_name(name))  # others may have been started since it was free
        if len(os.fsencode(place / "qmp.sock")) > _LONGEST:
            raise Mistake(f"{place} is too long a path for sockets; set XDG_RUNTIME_DIR to a shorter one")
        if alive(place):
            raise Mistake(f"a machine {name!r} runs already; stop it (ratite stop {name}) or choose another --name")
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir(mode=0o700)
        (place / "starting").write_text(_starter(os.getpid()))
    return place


def forget(folder: Path, started: bool = False) -> None:
    """Remove what a machine has left, unless one of its name lives there now. `started`: by us, who give up."""
    with _locked():
        with suppress(OSError):
            if started and (folder / "starting").read_text() == _starter(os.getpid()):
                (folder / "starting").unlink()
        if not alive(folder):
            shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _locked() -> Iterator[None]:
    """Alone among the user's `ratite`s."""
    import fcntl

    with open(runtime_folder() / "machines.lock", "ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _starter(pid: int) -> str:
    """A process: its pid, and when it began, since pids are given again. OSError if it is gone."""
    with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as file:
        return f"{pid} {file.read().rpartition(')')[2].split()[19]}"


def free_name(wish: str, taken: Iterable[str] = ()) -> str:
    """`wish`, made a possible name, with a number behind it if a machine is called so, or if it is in `taken`."""
    wish = re.sub(r"[^A-Za-z0-9._-]+", "-", wish).strip("-._")[:48] or "machine"
    there = set(os.listdir(machines_folder()))
    name, number = wish, 2
    while name in taken or (name in there and alive(machines_folder() / name)):
        name, number = f"{wish}-{number}", number + 1
    return name


def write_record(folder: Path, record: Mapping[str, Any]) -> None:
    """Make the machine known; whole or not at all."""
    half = folder / "machine.json.new"
    half.write_text(json.dumps(record) + "\n", encoding="utf-8")
    half.rename(folder / "machine.json")
    (folder / "starting").unlink(missing_ok=True)


def alive(folder: Path) -> bool:
    """Whether a daemon listens there, however busy, or a machine is being started there: by a process that lives."""
    with closing(socket.socket(socket.AF_UNIX)) as sock:
        sock.settimeout(2)
        try:
            sock.connect(str(folder / "qmp.sock"))
            return True
        except (ConnectionRefusedError, FileNotFoundError):
            pass  # nobody's
        except OSError:
            return True  # who listens accepts nobody just now
    try:
        text = (folder / "starting").read_text()
        return text == _starter(int(text.split()[0]))
    except (OSError, ValueError, IndexError):
        return False


def local() -> list[Machine]:
    """The machines that live, by name; what dead ones left is removed."""
    found = []
    for folder in sorted(machines_folder().iterdir()):
        if not alive(folder):
            forget(folder)
            continue
        try:
            record = json.loads((folder / "machine.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            record = _orphan(folder)
        if record is not None:
            found.append(Machine(folder.name, f"unix:{folder / 'qmp.sock'}", folder, record))
    return found


def _orphan(folder: Path) -> dict[str, Any] | None:
    """A record of a daemon whose starter was killed before it wrote one; None while the starter lives."""
    with closing(socket.socket(socket.AF_UNIX)) as sock, suppress(OSError, ValueError, IndexError):
        text = (folder / "starting").read_text()
        with suppress(OSError):
            if text == _starter(int(text.split()[0])):
                return None
        sock.settimeout(2)
        sock.connect(str(folder / "qmp.sock"))
        pid, _, _ = struct.unpack("3i", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
        return {"name": folder.name, "pid": pid, "source": "never finished", "set": {}, "created": folder.stat().st_mtime}
    return None


def remote() -> list[Machine]:
    """The instances of the control plane."""
    from ratite.clients.cli.remote import instances

    return [Machine(row["instance"], "", None, row) for row in instances()]


def find(name: str | None, qmp: str | None = None) -> Machine:
    """The machine of a command line: NAME, an address in its place, --qmp ADDR, or the only one there is. Mistake."""
    if qmp is not None:
        return Machine(qmp, qmp)
    if name is not None and (":" in name or "/" in name):
        return Machine(name, name)
    there = {machine.name: machine for machine in local()}
    if name not in there:
        there = {**{machine.name: machine for machine in remote()}, **there}
    if name is None:
        if len(there) == 1:
            return next(iter(there.values()))
        what = f"name one of {', '.join(there)}" if there else "start one with ratite run, or give --qmp ADDR"
        raise Mistake(f"{'several machines run' if there else 'no machine runs'}: {what}")
    if name not in there:
        raise Mistake(f"there is no machine {name!r}{nearest(name, there)}" + ("" if there else "; none runs (ratite ps)"))
    return there[name]
