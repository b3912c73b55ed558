"""Machines of a control plane: QMP, consoles and ends, through JSON-RPC, with the faces that those of `ratite run` have.

The control plane is the one at $RATITE_CONTROL (default: `default`, the user's own socket); over TCP its token is read from
the file $RATITE_TOKEN_FILE.
"""

from __future__ import annotations

import base64
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ratite.clients.cli.kit import Failure, Mistake
from ratite.clients.qmp import Client, CommandError, Event, QmpClientError
from ratite.qapi.rendezvous import control_path

if TYPE_CHECKING:
    from ratite.clients.control import ControlClient

QMP_REFUSED = -32000
HTTP_SECONDS = 30.0
DAY = 86400.0  # stands for any time
SOON = 0.05  # seconds: a message has begun to arrive


def address() -> str:
    """Where the control plane is."""
    return os.environ.get("RATITE_CONTROL") or "default"


def there() -> bool:
    """Whether one may be there: somebody said so, or the default socket exists."""
    return address() != "default" or os.path.exists(control_path())


def control(timeout: float = 30.0) -> ControlClient:
    """A connection. Mistake where there is no control plane."""
    from ratite.clients.control import ControlClient, ControlError

    try:
        return ControlClient.connect(address(), _token(), timeout)
    except (ControlError, OSError) as error:
        raise Mistake(str(error)) from None


def _token() -> str | None:
    path = os.environ.get("RATITE_TOKEN_FILE")
    if not path:
        return None
    try:
        return Path(path).read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise Mistake(f"the token can't be read from {path}: {error}") from None


def fetch(path: str) -> str:
    """What the control plane answers to an HTTP GET. Mistake where there is none, Failure where it refuses."""
    from http.client import HTTPConnection, HTTPException

    from ratite.clients.control import ControlError, open_socket

    token = _token()
    connection = HTTPConnection("localhost")
    try:
        connection.sock, host = open_socket(address(), HTTP_SECONDS)
        headers = {"Host": host, **({} if token is None else {"Authorization": f"Bearer {token}"})}
        connection.request("GET", path, headers=headers)
        answer = connection.getresponse()
        text = answer.read().decode()
    except (ControlError, OSError) as error:
        raise Mistake(str(error)) from None
    except HTTPException as error:
        raise Failure(f"the control plane speaks no HTTP: {error!r}") from None
    finally:
        connection.close()
    if answer.status != 200:
        raise Failure(f"the control plane refuses {path}: {answer.status} {answer.reason}")
    return text


def instances() -> list[Mapping[str, Any]]:
    """What the control plane has: InstanceInfo of its schema; none where there is no control plane."""
    if not there():
        return []
    try:
        with control() as plane:
            return list(plane.instance_list())
    except Mistake:
        if address() != "default":
            raise
        return []  # a socket that nobody serves any more


class RemoteClient(Client):
    """A QMP session with an instance: what `ratite.clients.qmp.Client` is, by instance-qmp."""

    def __init__(self, instance: str, timeout: float | None = 30.0) -> None:
        from ratite.clients.control import RpcError

        self.instance = instance
        self.plane = control(timeout or DAY)
        self.events: list[Event] = []
        self.oob = False
        self.ended: Mapping[str, Any] | None = None  # what INSTANCE_ENDED said
        try:
            info = self.plane.control_info()
            self.plane.instance_subscribe(instance=instance)
        except RpcError as error:
            self.plane.close()
            raise Mistake(error.message) from None
        self.greeting = {"version": {"package": f"ratite {info['version']} (control plane)"}}

    def close(self) -> None:
        self.plane.close()

    def set_timeout(self, timeout: float | None) -> None:
        self.plane.set_timeout(timeout or DAY)

    def fileno(self) -> int:
        return self.plane.fileno()

    def execute(
        self, command: str, arguments: Mapping[str, Any] | None = None, *, fds: object = (), _key: str = "execute", **more: Any
    ) -> Any:  # fmt: skip
        from ratite.clients.control import ControlError, RpcError

        given = {**(arguments or {}), **{name.replace("_", "-"): value for name, value in more.items()}}
        try:
            return self.plane.instance_qmp(
                instance=self.instance, execute=command, arguments=given or None, oob=_key == "exec-oob" or None
            )
        except RpcError as error:
            if error.code == QMP_REFUSED and isinstance(error.data, dict):
                raise CommandError(command, error.data) from None
            raise CommandError(command, {"class": "GenericError", "desc": error.message}) from None
        except ControlError as error:
            raise QmpClientError(str(error)) from None

    def drain(self) -> list[Event]:
        for note in _notifications(self.plane):
            if note["method"] != "event":
                continue
            params = note["params"]
            if params["event"] == "INSTANCE_ENDED":
                self.ended = params.get("data", {})
                continue
            self.events.append({name: params[name] for name in ("event", "data", "timestamp") if name in params})
        found, self.events = self.events, []
        return found


def _notifications(plane: ControlClient) -> list[dict[str, Any]]:
    """Those that are there; QmpClientError at the end of the connection."""
    import select

    from ratite.clients.control import ControlError

    found: list[dict[str, Any]] = []
    try:
        while plane.notifications or select.select([plane], [], [], 0)[0]:
            with suppress(TimeoutError):
                found.append(plane.next_notification(SOON))
    except ControlError as error:
        if not found:
            raise QmpClientError(str(error)) from None
    return found


class RemoteLine:
    """A seat at a console of an instance: what `console.Line` is, by console-attach."""

    waiting = False  # the control plane takes whatever is written

    def __init__(self, instance: str, chardev: str) -> None:
        from ratite.clients.control import RpcError

        self._plane = control()
        self._over = False  # nothing comes any more
        try:
            self._console = self._plane.console_attach(instance=instance, chardev=chardev)["console"]
        except RpcError as error:
            self._plane.close()
            raise CommandError("console-attach", {"class": "GenericError", "desc": error.message}) from None

    def fileno(self) -> int:
        """To wait for output of the guest; more of it may have come with an answer, see `read`."""
        return self._plane.fileno()

    def read(self) -> bytes | None:
        """What the guest has printed; None once the console is closed."""
        data = bytearray()
        try:
            notes = [] if self._over else _notifications(self._plane)
        except QmpClientError:
            return None
        for note in notes:
            if note["method"] == "console-output":
                data += base64.b64decode(note["params"]["data"])
            elif note["method"] == "console-closed":
                self._over = True
        return None if self._over and not data else bytes(data)

    @property
    def buffered(self) -> bool:
        """Whether `read` has something that came with an answer, or the end that came with the last bytes."""
        return self._over or bool(self._plane.notifications)

    def write(self, data: bytes) -> None:
        """To the guest."""
        from ratite.clients.control import ControlError, RpcError

        with suppress(ControlError, RpcError):  # `read` tells that it is closed
            self._plane.console_write(console=self._console, data=base64.b64encode(data).decode("ascii"))

    def flush(self) -> None:
        """Nothing is ever kept."""

    def close(self) -> None:
        """Leave."""
        self._plane.close()


def create(instance: str, paused: bool) -> None:
    """A new, empty instance. Mistake."""
    from ratite.clients.control import RpcError

    with control() as plane:
        try:
            plane.instance_create(instance=instance, paused=paused)
        except RpcError as error:
            raise Mistake(error.message) from None


def end(instance: str, force: bool) -> None:
    """End an instance. Mistake where there is none."""
    from ratite.clients.control import RpcError

    with control() as plane:
        try:
            plane.instance_end(instance=instance, force=force)
        except RpcError as error:
            raise Mistake(error.message) from None
