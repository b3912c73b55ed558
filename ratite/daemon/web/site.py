"""The page's listener: loopback only, made when somebody asks for the page for the first time.

    GET /, /app.css, /js/…   the page's files: no secret in them    POST /login   a code for a cookie
    GET /session             whether the cookie is one              POST /logout  the session ends
    GET /rpc                 the control plane's WebSocket, with a cookie

Every request and upgrade must name this listener as its Host; an Origin must be it, and must be there where a browser always
sends one; what another site begins is refused, but for a link to the page itself.  Nothing may be framed, and no script or
style comes from anywhere but here.  A session's WebSockets keep it alive, and are cut when it ends.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import mimetypes
import os
import socket
from collections.abc import Awaitable, Callable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

from aiohttp import web

from ratite.daemon.web.login import CODE_SECONDS, SESSION_SECONDS, Login

if TYPE_CHECKING:
    from ratite.daemon.log import Log

ADDRESS = "127.0.0.1"
BODY_MAX = 4096
STATIC = os.path.join(os.path.dirname(os.path.abspath(__file__)), "static")
HEADERS: Mapping[str, str] = MappingProxyType(
    {
        "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
        "connect-src 'self'; worker-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
        "Cache-Control": "no-cache",
        "Cross-Origin-Opener-Policy": "same-origin",
        "Cross-Origin-Resource-Policy": "same-origin",
        "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
        "Referrer-Policy": "no-referrer",
        "X-Content-Type-Options": "nosniff",
    }
)
# The key of a request below which the Set-Cookie of its answer is kept.
_COOKIE = "ratite-cookie"
_TYPES: Mapping[str, str] = MappingProxyType({".js": "text/javascript", ".mjs": "text/javascript", ".svg": "image/svg+xml"})

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class File(NamedTuple):
    """A file of the page."""

    data: bytes
    content_type: str
    etag: str


def load_files(folder: str = STATIC) -> Mapping[str, File]:
    """What the page is made of, by the path in its URL ("js/main.js").  A few hundred KiB, read once."""
    found = {}
    for place, _folders, names in os.walk(folder):
        for name in sorted(names):
            path = os.path.join(place, name)
            with open(path, "rb") as file:
                data = file.read()
            ending = os.path.splitext(name)[1]
            kind = _TYPES.get(ending) or mimetypes.guess_type(name)[0] or "text/plain"
            tag = hashlib.sha256(data).hexdigest()[:32]
            found[os.path.relpath(path, folder).replace(os.sep, "/")] = File(data, kind, tag)
    return MappingProxyType(found)


class Site:
    """See the module's head.  `websocket` serves an upgrade that may come in."""

    def __init__(self, log: Log, websocket: Handler, login: Login | None = None) -> None:
        self.port = 0
        self._log = log
        self._websocket = websocket
        self._login = login or Login()
        self._login.ended = self._cut
        # The connections of each session's WebSockets.
        self._open: dict[bytes, list[asyncio.Transport]] = {}
        self._files: Mapping[str, File] = MappingProxyType({})
        self._runner: web.AppRunner | None = None

    async def open(self) -> dict[str, object]:
        """A URL that signs a browser in, and for how many seconds: {"url", "seconds"}.  OSError."""
        if self._runner is None:
            await self._start()
        # Behind '#': a browser keeps that to itself, so it is in no request, no log and no Referer.
        return {"url": f"http://{ADDRESS}:{self.port}/#code={self._login.mint()}", "seconds": int(CODE_SECONDS)}

    async def close(self) -> None:
        """Accept nothing more."""
        if self._runner is not None:
            await self._runner.cleanup()

    async def _start(self) -> None:
        self._files = load_files()
        app = web.Application(client_max_size=BODY_MAX, middlewares=[self._guard])
        app.on_response_prepare.append(_add_headers)
        app.router.add_post("/login", self._exchange)
        app.router.add_post("/logout", self._end)
        app.router.add_get("/session", self._session)
        app.router.add_get("/rpc", self._rpc)
        app.router.add_get("/{path:.*}", self._file)
        runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=1.0)
        await runner.setup()
        sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        try:
            sock.bind((ADDRESS, 0))
            await web.SockSite(runner, sock).start()
        except BaseException:
            sock.close()
            await runner.cleanup()
            raise
        self.port = sock.getsockname()[1]
        self._runner = runner

    # -- who may come in

    @web.middleware
    async def _guard(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        refusal = self._refusal(request)
        if refusal:
            self._log.warning("request to the page refused", reason=refusal)
            return web.Response(status=403, text=f"{refusal}\n")
        return await handler(request)

    def _refusal(self, request: web.Request) -> str:
        # Its own name, as text: a name that somebody else's server resolves to here is not ours.
        hosts = (f"{ADDRESS}:{self.port}", f"localhost:{self.port}")
        if request.headers.getall("Host", []) not in [[host] for host in hosts]:
            return "Host must name this page's listener"
        origins = request.headers.getall("Origin", [])
        if origins and origins != [f"http://{request.headers['Host']}"]:
            return "Origin must be this page"
        if not origins and (request.method != "GET" or request.path == "/rpc"):
            return "Origin must be given"
        if request.headers.get("Sec-Fetch-Site", "none") not in ("none", "same-origin") and not _is_link(request):
            return "another site asks"
        return ""

    @property
    def cookie(self) -> str:
        """The cookie's name: a host's cookies are not told apart by port, so the name is."""
        return f"ratite-{self.port}"

    def _known(self, request: web.Request) -> bytes | None:
        for used in self._open:
            self._login.use(used)
        token = request.cookies.get(self.cookie, "")
        session = self._login.known(token)
        if session is not None:
            # The browser shall keep it as long as we do.
            request[_COOKIE] = self._cookie_line(token, SESSION_SECONDS)
        return session

    def _cookie_line(self, token: str, seconds: float) -> str:
        return f"{self.cookie}={token}; Path=/; Max-Age={int(seconds)}; HttpOnly; SameSite=Strict"

    def _cut(self, session: bytes) -> None:
        for transport in self._open.pop(session, []):
            transport.abort()

    # -- requests

    async def _exchange(self, request: web.Request) -> web.StreamResponse:
        try:
            code = json.loads(await request.text())["code"]
        except (ValueError, TypeError, KeyError, RecursionError):
            code = None
        token = self._login.exchange(code) if isinstance(code, str) else None
        if token is None:
            self._log.warning("a code of the page was refused")
            return web.Response(status=401, text="the code was used, is too old, or never was one\n")
        request[_COOKIE] = self._cookie_line(token, SESSION_SECONDS)
        return web.Response(status=204)

    async def _end(self, request: web.Request) -> web.StreamResponse:
        session = self._known(request)
        if session is not None:
            self._login.end(session)
        request[_COOKIE] = self._cookie_line("", 0)
        return web.Response(status=204)

    async def _session(self, request: web.Request) -> web.StreamResponse:
        return web.Response(status=401 if self._known(request) is None else 204)

    async def _rpc(self, request: web.Request) -> web.StreamResponse:
        session, transport = self._known(request), request.transport
        if session is None or transport is None:
            return web.Response(status=401, text="this browser is not signed in\n")
        self._open.setdefault(session, []).append(transport)
        try:
            return await self._websocket(request)
        finally:
            self._login.use(session)
            others = self._open.get(session, [])
            if transport in others:
                others.remove(transport)
                if not others:
                    del self._open[session]

    async def _file(self, request: web.Request) -> web.StreamResponse:
        file = self._files.get(request.match_info["path"] or "index.html")
        if file is None:
            return web.Response(status=404, text="there is no such file\n")
        headers = {"ETag": f'"{file.etag}"'}
        if request.headers.get("If-None-Match") == headers["ETag"]:
            return web.Response(status=304, headers=headers)
        return web.Response(body=file.data, content_type=file.content_type, charset="utf-8", headers=headers)


def _is_link(request: web.Request) -> bool:
    """Whether a person follows a link to the page: nothing is told or done by that, and the page asks for all else itself."""
    wanted = {"Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
    return request.method == "GET" and request.path == "/" and all(request.headers.get(key) == wanted[key] for key in wanted)


async def _add_headers(request: web.Request, response: web.StreamResponse) -> None:
    response.headers.update(HEADERS)
    if _COOKIE in request:
        response.headers["Set-Cookie"] = request[_COOKIE]
    response.headers.pop("Server", None)
