"""What the control plane's methods do, and their execution.

A method is a function `method(plane, peer, arguments) -> value` marked with `@method("name")`; a coroutine function runs
as a task of its connection.  Arguments are checked against `schema/control-plane.json`.  A refusal is an RpcError.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import inspect
import json
import os
import time
from collections.abc import Callable, Coroutine, Mapping
from contextlib import suppress
from types import MappingProxyType
from typing import Any, NamedTuple

from ratite import __version__
from ratite.daemon.control import assemble, rpc
from ratite.daemon.control.instance import Instance
from ratite.daemon.control.peer import Peer
from ratite.daemon.control.plane import ControlPlane
from ratite.daemon.control.qmplink import LinkBusy, LinkClosed, QmpRefusal
from ratite.daemon.control.rpc import Call, RpcError
from ratite.qapi.resolved import ResolvedSchema
from ratite.qapi.tables import Command, Tables

Handler = Callable[[ControlPlane, Peer, dict[str, Any]], Any]
Answer = dict[str, Any] | None

DISCOVER = "rpc.discover"
ANSWER_SECONDS = 1.0


def method(name: str) -> Callable[[Handler], Handler]:
    """Mark a function as the method `name`."""

    def mark(handler: Handler) -> Handler:
        handler.rpc_method = name  # type: ignore[attr-defined]
        return handler

    return mark


@method("web-open")
async def web_open(plane: ControlPlane, peer: Peer, arguments: dict[str, Any]) -> object:
    """A URL of the page."""
    if plane.open_page is None:
        raise RpcError(rpc.NOT_PERMITTED, "this control plane has no server that could show a page")
    try:
        return await plane.open_page()
    except OSError as error:
        raise RpcError(rpc.NOT_PERMITTED, f"the page's listener can't be opened: {error.strerror}") from None


@method("control-info")
def control_info(plane: ControlPlane, peer: Peer, arguments: dict[str, Any]) -> object:
    """What it is and what it allows."""
    return {
        "version": __version__,
        "pid": os.getpid(),
        "uptime": time.monotonic() - plane.started,
        "instances": len(plane.instances),
        "max-instances": plane.settings.max_instances,
        "zygote-pid": plane.nursery.pid,
        "zygote-restarts": plane.nursery.restarts,
        "allow-dirs": [{"name": root.name, "path": root.path, "writable": root.writable} for root in plane.settings.roots],
        "permissions": list(plane.settings.permissions),
        "limits": dict(plane.settings.limits),
        "limits-held": [{"limit": name, "by": list(by)} for name, by in plane.settings.held.items()],
    }


@method("instance-create")
async def instance_create(plane: ControlPlane, peer: Peer, arguments: dict[str, Any]) -> object:
    """Make one."""
    commands: assemble.Commands = []
    if "file" in arguments:
        commands = await assemble.compiled(plane, arguments["file"], arguments.get("set", {}))
    elif "set" in arguments:
        raise RpcError(rpc.INVALID_PARAMS, "Parameter 'set' needs 'file'")
    instance = await plane.create(arguments)
    try:
        with _Translated(instance):
            await assemble.assemble(instance, commands)
    except BaseException:
        plane.abandon(instance)
        raise
    return instance.info()


@method("instance-list")
def instance_list(plane: ControlPlane, peer: Peer, arguments: dict[str, Any]) -> object:
    """All of them."""
    return [instance.info() for instance in plane.instances.values()]


@method("instance-inspect")
async def instance_inspect(plane: ControlPlane, peer: Peer, arguments: dict[str, Any]) -> object:
    """One of them, closely."""
    instance = plane.find(arguments["instance"])
    details = {
        **instance.info(), **instance.memory(), "limits": dict(instance.limits),
        "subscribers": plane.subscribers(instance.name), "events": instance.events, "log": instance.log_text(),
        "log-bytes": instance.log_bytes,
    }  # fmt: skip
    if instance.state == "running":
        # One that hangs is just what somebody wants to look at.
        with suppress(TimeoutError, KeyError, TypeError), _Translated(instance):
            async with asyncio.timeout(ANSWER_SECONDS):
                phase, status = await asyncio.gather(
                    instance.link.execute("query-machine-phase"), instance.link.execute("query-status")
                )
            details["phase"], details["status"] = str(phase["phase"]), str(status["status"])
    return details


@method("instance-end")
async def instance_end(plane: ControlPlane, peer: Peer, arguments: dict[str, Any]) -> object:
    """End one."""
    return await plane.find(arguments["instance"]).end(arguments.get("force", False))


@method("instance-qmp")
async def instance_qmp(plane: ControlPlane, peer: Peer, arguments: dict[str, Any]) -> object:
    """Pass a command through."""
    instance = plane.find(arguments["instance"])
    given = arguments.get("arguments", {})
    if type(given) is not dict:
        raise RpcError(rpc.INVALID_PARAMS, "Invalid parameter type for 'arguments', expected: object")
    if arguments["execute"] == "view-select":
        peer.need_websocket("view-select")
    with _Translated(instance):
        link = await peer.monitor(instance)
        return await link.execute(arguments["execute"], given, oob=arguments.get("oob", False))


@method("instance-subscribe")
def instance_subscribe(plane: ControlPlane, peer: Peer, arguments: dict[str, Any]) -> object:
    """Events from now on."""
    peer.need_websocket("instance-subscribe")
    name = arguments.get("instance")
    if name is not None:
        plane.find(name)
    return {"subscription": peer.subscribe(name, arguments.get("events", []))}


@method("instance-unsubscribe")
def instance_unsubscribe(plane: ControlPlane, peer: Peer, arguments: dict[str, Any]) -> object:
    """No more of them."""
    peer.unsubscribe(arguments["subscription"])
    return {}


@method("console-attach")
async def console_attach(plane: ControlPlane, peer: Peer, arguments: dict[str, Any]) -> object:
    """Bytes of a console, both ways."""
    peer.need_websocket("console-attach")
    peer.check_consoles()
    instance = plane.find(arguments["instance"])
    with _Translated(instance):
        sock = await instance.open_console(arguments["chardev"])
    return {"console": peer.add_console(instance.name, sock)}


@method("console-write")
def console_write(plane: ControlPlane, peer: Peer, arguments: dict[str, Any]) -> object:
    """Bytes for the device."""
    console = peer.console(arguments["console"])
    try:
        data = base64.b64decode(arguments["data"], validate=True)
    except (binascii.Error, ValueError):
        raise RpcError(rpc.INVALID_PARAMS, "Parameter 'data' must be base64") from None
    console.write(data)
    return {}


@method("console-detach")
def console_detach(plane: ControlPlane, peer: Peer, arguments: dict[str, Any]) -> object:
    """No more of it."""
    peer.console(arguments["console"]).close()
    return {}


@method("request-cancel")
def request_cancel(plane: ControlPlane, peer: Peer, arguments: dict[str, Any]) -> object:
    """Cancel a call of this connection."""
    wanted = arguments["id"]
    task = peer.tasks.pop(wanted, None) if type(wanted) in (str, int, float) else None
    return {"cancelled": task is not None and task.cancel()}


class _Translated:
    """Turns a monitor's errors into RpcErrors."""

    def __init__(self, instance: Instance) -> None:
        self._instance = instance

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, QmpRefusal):
            raise RpcError(rpc.QMP_ERROR, error.desc, {"class": error.error_class, "desc": error.desc}) from None
        if isinstance(error, LinkBusy):
            raise RpcError(rpc.LIMIT_EXCEEDED, f"too many commands wait for instance {self._instance.name!r}") from None
        if isinstance(error, LinkClosed):
            raise RpcError(rpc.INSTANCE_GONE, f"instance {self._instance.name!r} has ended") from None


class _Entry(NamedTuple):
    """`later`: the handler is a coroutine function."""

    command: Command
    handler: Handler
    later: bool


def load_control_schema() -> ResolvedSchema:
    """The control plane's resolved schema, which ships with the package."""
    path = os.path.join(os.path.dirname(__file__), os.pardir, os.pardir, "schema", "resolved-control.json")
    with open(path, "rb") as file:
        return ResolvedSchema.from_json(json.loads(file.read()))


def handlers() -> Mapping[str, Handler]:
    """Every method of this module by its name."""
    marked = (value for value in globals().values() if hasattr(value, "rpc_method"))
    return MappingProxyType({handler.rpc_method: handler for handler in marked})


class Methods:
    """Executes calls."""

    def __init__(self, plane: ControlPlane) -> None:
        self._plane = plane
        self._schema = load_control_schema()
        commands = Tables(self._schema).commands
        self._entries = {
            name: _Entry(commands[name], handler, inspect.iscoroutinefunction(handler)) for name, handler in handlers().items()
        }

    def begin(self, peer: Peer, call: Call) -> Answer | Coroutine[Any, Any, Answer]:
        """Execute a call: its answer (None for a notification), or what will give it."""
        try:
            if call.error is not None:
                raise call.error
            if call.method == DISCOVER:
                return self._answer(call, self._discover(call))
            entry = self._entries.get(call.method)
            if entry is None:
                raise RpcError(rpc.METHOD_NOT_FOUND, f"there is no method {call.method[:100]!r}")
            arguments = rpc.check(entry.command, call.params)
            if entry.later:
                return self._finish(peer, call, entry, arguments)
            value = entry.handler(self._plane, peer, arguments)
        except RpcError as error:
            return self._refuse(call, error)
        except Exception as error:
            return self._refuse(call, self._internal(call, error))
        return self._answer(call, value)

    async def _finish(self, peer: Peer, call: Call, entry: _Entry, arguments: dict[str, Any]) -> Answer:
        try:
            return self._answer(call, await entry.handler(self._plane, peer, arguments))
        except RpcError as error:
            return self._refuse(call, error)
        except Exception as error:
            return self._refuse(call, self._internal(call, error))

    def cancelled(self, call: Call) -> Answer:
        """The answer to a call that was cancelled, which may not even have begun."""
        return self._refuse(call, RpcError(rpc.CANCELLED, "the request was cancelled"))

    def _internal(self, call: Call, error: Exception) -> RpcError:
        self._plane.log.error("a method failed inside", method=call.method, exc_info=error)
        return RpcError(rpc.INTERNAL_ERROR, f"internal error: {type(error).__name__}: {error}")

    def _answer(self, call: Call, value: object) -> Answer:
        self._plane.calls[call.method, "ok"] += 1
        return None if call.notification else call.result(value)

    def _refuse(self, call: Call, error: RpcError) -> Answer:
        # A name that anybody may choose is no label of a counter.
        name = call.method if call.method in self._entries else "?"
        self._plane.calls[name, str(error.code)] += 1
        if call.notification:
            return None
        return call.refusal(error)

    def _discover(self, call: Call) -> object:
        from ratite.daemon.control.openrpc import document

        if call.params:
            raise RpcError(rpc.INVALID_PARAMS, f"{DISCOVER} takes no params")
        return document(self._schema)
