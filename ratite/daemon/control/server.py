"""The control plane's HTTP: requests, WebSockets, metrics; aiohttp's only user.

    POST /rpc      one JSON-RPC text, a request or a batch        GET /rpc       a WebSocket, a text a message
    GET /metrics   Prometheus

Every request passes the gate first.  A text is 4 MiB at most.
"""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from aiohttp import WSCloseCode, WSMsgType, web

from ratite.daemon.control import rpc
from ratite.daemon.control.gate import Gate, GateError, Refused, is_loopback
from ratite.daemon.control.methods import Methods
from ratite.daemon.control.peer import Peer
from ratite.daemon.control.plane import ControlPlane
from ratite.daemon.control.rpc import Call, RpcError
from ratite.daemon.qmp.address import Endpoint, open_endpoint

if TYPE_CHECKING:
    from ssl import SSLContext

    from ratite.daemon.web.site import Site

BODY_MAX = 4 << 20
CLOSE_SECONDS = 1.0
# A connection on which nobody asks anything, or whose request's head doesn't come to its end.
IDLE_SECONDS = 30.0
BODY_SECONDS = 30.0

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class ControlServer:
    """Serves a plane.  Routes may be added to `app`, doors to `gate`, before `start`."""

    def __init__(self, plane: ControlPlane, gate: Gate, tls: SSLContext | None = None) -> None:
        self.plane = plane
        self.gate = gate
        self.app = web.Application(client_max_size=BODY_MAX, middlewares=[self._guard])
        self.app.router.add_post("/rpc", self._post)
        self.app.router.add_get("/rpc", self._websocket)
        self.app.router.add_get("/metrics", self._metrics)
        self._methods = Methods(plane)
        self._tls = tls
        # Who goes away while his call is under way waits for it no more.
        self._runner = web.AppRunner(
            self.app, access_log=None, handle_signals=False, shutdown_timeout=CLOSE_SECONDS, keepalive_timeout=IDLE_SECONDS,
            handler_cancellation=True,
        )  # fmt: skip
        self._sockets: dict[web.WebSocketResponse, None] = {}
        self._sites: list[tuple[web.SockSite, Endpoint]] = []
        self._page: Site | None = None
        self._refused_at = -1.0
        self._refused_seen = 0
        plane.open_page = self._open_page

    # -- listening

    async def start(self) -> None:
        """Ready to listen; no route can be added any more."""
        await self._runner.setup()

    async def listen(self, endpoint: Endpoint | str) -> tuple[str, int] | str:
        """Serve at an address (of --qmp's form) or an open endpoint; its socket's name.  GateError, AddressError."""
        if isinstance(endpoint, str):
            endpoint = open_endpoint(endpoint)
        try:
            name = endpoint.sock.getsockname()
            tls = None
            if endpoint.sock.family in (socket.AF_INET, socket.AF_INET6):
                tls = self._tls
                if not self.gate.has_token:
                    raise GateError(f"address {endpoint.address.text!r}: TCP needs --token-file")
                if tls is None and not is_loopback(name):
                    raise GateError(f"address {endpoint.address.text!r}: off loopback, TLS is needed (--tls-cert, --tls-key)")
            site = web.SockSite(self._runner, endpoint.sock, ssl_context=tls)
            await site.start()
        except BaseException:
            endpoint.remove()
            raise
        self._sites.append((site, endpoint))
        return name[:2] if isinstance(name, tuple) else name

    async def close(self) -> None:
        """Accept nothing more, say goodbye, remove the sockets' paths."""
        for site, endpoint in self._sites:
            await site.stop()
            endpoint.remove()
        goodbyes = [ws.close(code=WSCloseCode.GOING_AWAY, message=b"the control plane is ending") for ws in list(self._sockets)]
        if goodbyes:
            await asyncio.wait([asyncio.ensure_future(each) for each in goodbyes], timeout=CLOSE_SECONDS)
        if self._page is not None:
            await self._page.close()
        await self._runner.cleanup()

    async def _open_page(self) -> dict[str, object]:
        if self._page is None:
            from ratite.daemon.web.site import Site

            self._page = Site(self.plane.log, self._websocket)
        return await self._page.open()

    # -- requests

    @web.middleware
    async def _guard(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            self.gate.check(request)
        except Refused as refusal:
            self.plane.refused += 1
            self._log_refusal(refusal)
            headers = {"WWW-Authenticate": "Bearer"} if refusal.status == 401 else {}
            return web.Response(status=refusal.status, text=f"{refusal}\n", headers=headers)
        return await handler(request)

    def _log_refusal(self, refusal: Refused) -> None:
        """One a second: who knocks all the time fills no disk."""
        now = time.monotonic()
        if now - self._refused_at >= 1:
            others, self._refused_seen = self.plane.refused - self._refused_seen - 1, self.plane.refused
            self._refused_at = now
            self.plane.log.warning("control request refused", status=refusal.status, reason=str(refusal), others=others)

    async def _post(self, request: web.Request) -> web.StreamResponse:
        # What a form of another site can't send.
        if request.content_type != "application/json":
            return web.Response(status=415, text="Content-Type must be application/json\n")
        peer = Peer(self.plane)
        try:
            async with asyncio.timeout(BODY_SECONDS):
                text = (await request.read()).decode()
            calls, batch = rpc.take(text)
        except RpcError as error:
            return _json(_refusal(error))
        except TimeoutError:
            return web.Response(status=408, text="the request's body took too long\n")
        except UnicodeDecodeError as error:
            return _json(_refusal(RpcError(rpc.PARSE_ERROR, f"parse error: {error}")))
        answers = await self._answers(peer, calls)
        if not answers:
            return web.Response(status=204)
        return _json(answers if batch else answers[0])

    async def _answers(self, peer: Peer, calls: list[Call]) -> list[dict[str, Any]]:
        """Of the calls of one text, begun in order and executed side by side."""
        begun = [self._methods.begin(peer, call) for call in calls]
        if len(begun) == 1 and asyncio.iscoroutine(begun[0]):
            begun = [await begun[0]]
        waiting = [asyncio.ensure_future(each) for each in begun if asyncio.iscoroutine(each)]
        done = iter(await asyncio.gather(*waiting)) if waiting else iter(())
        answers = [next(done) if asyncio.iscoroutine(each) else each for each in begun]
        return [answer for answer in answers if isinstance(answer, dict)]

    async def _metrics(self, request: web.Request) -> web.StreamResponse:
        from ratite.daemon.control.metrics import CONTENT_TYPE, collect

        text = await collect(self.plane)
        return web.Response(body=text.encode(), headers={"Content-Type": CONTENT_TYPE})

    # -- WebSockets

    async def _websocket(self, request: web.Request) -> web.StreamResponse:
        ws = web.WebSocketResponse(max_msg_size=BODY_MAX, compress=False)
        await ws.prepare(request)
        transport = request.transport

        def drop() -> None:
            if transport is not None:
                transport.abort()

        peer = Peer(self.plane, ws.send_str, drop)
        self.plane.peers[peer] = None
        self._sockets[ws] = None
        try:
            async for message in ws:
                if message.type is WSMsgType.TEXT:
                    self._take(peer, message.data)
                    if peer.busy:
                        await self._wait_for_room(peer)
                elif message.type is WSMsgType.BINARY:
                    peer.send(rpc.encode(_refusal(RpcError(rpc.PARSE_ERROR, "a message must be text, not binary"))))
        finally:
            peer.close()
            self._sockets.pop(ws, None)
        return ws

    def _take(self, peer: Peer, text: str) -> None:
        try:
            calls, batch = rpc.take(text)
        except RpcError as error:
            peer.send(rpc.encode(_refusal(error)))
            return
        if batch:
            self._start(peer, object(), self._answers(peer, calls), lambda: None, len(text))
            return
        call = calls[0]
        answer = self._methods.begin(peer, call)
        if asyncio.iscoroutine(answer):
            # One that has no id of its own can't be cancelled; an id that is in use already neither.
            key = object() if call.id is None or call.id in peer.tasks else call.id
            self._start(peer, key, answer, lambda: self._methods.cancelled(call), len(text))
        elif isinstance(answer, dict):
            peer.send(rpc.encode(answer))

    def _start(self, peer: Peer, key: object, work: Any, cancelled: Callable[[], object], size: int) -> None:
        """Send what `work`, of a text of `size`, brings, or `cancelled()`, if it is anything."""
        peer.taken += size
        task = self.plane.loop.create_task(work)
        peer.tasks[key] = task

        def done(task: asyncio.Task[Any]) -> None:
            if peer.tasks.get(key) is task:
                del peer.tasks[key]
            peer.taken -= size
            if not peer.busy:
                peer.room.set()
            if not task.cancelled() and task.exception() is not None:
                self.plane.log.error("a call failed inside", exc_info=task.exception())
                return
            answer = cancelled() if task.cancelled() else task.result()
            if answer:
                peer.send(rpc.encode(answer))

        task.add_done_callback(done)

    async def _wait_for_room(self, peer: Peer) -> None:
        peer.room.clear()
        await peer.room.wait()


def _refusal(error: RpcError) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": None, "error": error.to_dict()}


def _json(value: object) -> web.Response:
    return web.Response(body=rpc.encode(value).encode("ascii"), content_type="application/json")
