"""The page's listener without a browser: who may come in, what every answer carries."""

from __future__ import annotations

import json
import re
import select
import socket

import pytest
from control_kit import ControlProcess
from web_kit import Http

from ratite.clients.control import ControlClient
from ratite.clients.websocket import WebSocket, WebSocketError
from ratite.daemon.web.login import SESSIONS_MAX


@pytest.fixture
def site(control: ControlClient) -> Http:
    return Http(control.web_open()["url"])


def signed_in(site: Http) -> str:
    found, cookie = site.login()
    assert found == 204
    return cookie.partition(";")[0]


def upgrade(site: Http, **headers: str) -> tuple[socket.socket, WebSocket]:
    """An open WebSocket at /rpc.  WebSocketError with the server's refusal."""
    host, _, port = site.host.partition(":")
    sock = socket.create_connection((host, int(port)), 10)
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    ws = WebSocket("/rpc", given.pop("Host", site.host), given)
    try:
        sock.sendall(ws.opening)
        while not ws.open:
            data = sock.recv(1 << 16)
            assert data, "closed without an answer"
            ws.feed(data)
    except BaseException:
        sock.close()
        raise
    return sock, ws


def test_url_is_on_loopback_and_the_code_is_in_no_request(control: ControlClient) -> None:
    link = control.web_open()
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+/#code=[\w-]{43}", link["url"])
    assert link["seconds"] == 60
    again = control.web_open()
    assert again["url"].partition("#")[0] == link["url"].partition("#")[0], "one listener"
    assert again["url"] != link["url"]


def test_cookie_is_for_the_browser_alone(site: Http) -> None:
    found, cookie = site.login()
    assert found == 204
    parts = [part.strip().lower() for part in cookie.split(";")]
    assert parts[0].startswith(f"ratite-{site.host.rpartition(':')[2]}=")
    assert {"httponly", "samesite=strict", "path=/"} <= set(parts)
    assert site.login()[0] == 401, "the code was used"
    pair = cookie.partition(";")[0]
    assert site.request("GET", "/session", Cookie=pair)[0] == 204
    assert site.request("GET", "/session", Cookie=pair[:-1])[0] == 401
    assert site.request("GET", "/session")[0] == 401


def ended(sock: socket.socket) -> bool:
    """Whether the other end closes it."""
    try:
        while sock.recv(1 << 16):
            pass
    except ConnectionError:
        pass
    return True


def test_signing_out_ends_the_session_and_its_sockets(site: Http, control: ControlClient) -> None:
    cookie = signed_in(site)
    other = signed_in(Http(control.web_open()["url"]))
    two = [upgrade(site, Origin=site.origin, Cookie=cookie)[0] for _ in "ab"]
    stays, _ = upgrade(site, Origin=site.origin, Cookie=other)
    assert site.request("POST", "/logout", "", Cookie=cookie)[0] == 403, "another site could send it"
    assert site.request("POST", "/logout", "", Cookie=cookie, Origin="http://evil.example")[0] == 403
    status, headers, _ = site.request("POST", "/logout", "", Cookie=cookie, Origin=site.origin)
    assert status == 204
    assert headers["set-cookie"].startswith(f"{cookie.partition('=')[0]}=; ") and "Max-Age=0" in headers["set-cookie"]
    for sock in two:
        assert ended(sock)
        sock.close()
    assert site.request("GET", "/session", Cookie=cookie)[0] == 401
    with pytest.raises(WebSocketError, match="401"):
        upgrade(site, Origin=site.origin, Cookie=cookie)
    assert site.request("POST", "/logout", "", Cookie=cookie, Origin=site.origin)[0] == 204, "it is out already"
    assert site.request("GET", "/session", Cookie=other)[0] == 204
    stays.setblocking(False)
    with pytest.raises(BlockingIOError):
        stays.recv(1)
    stays.close()


def test_a_session_that_others_push_out_loses_its_sockets(site: Http, control: ControlClient) -> None:
    cookie = signed_in(site)
    sock, _ = upgrade(site, Origin=site.origin, Cookie=cookie)
    for _ in range(SESSIONS_MAX):
        found, _ = site.login(control.web_open()["url"].partition("#code=")[2])
        assert found == 204
    assert ended(sock)
    sock.close()


def test_the_cookie_lives_as_long_as_the_session(site: Http) -> None:
    """Each use of it makes both live on: the browser would else drop it half a day after the login."""
    cookie = signed_in(site)
    renewed = f"{cookie}; Path=/; Max-Age=43200; HttpOnly; SameSite=Strict"
    assert site.request("GET", "/session", Cookie=cookie)[1]["set-cookie"] == renewed
    sock, ws = upgrade(site, Origin=site.origin, Cookie=cookie)
    assert ws.headers["set-cookie"] == renewed
    sock.close()
    assert "set-cookie" not in site.request("GET", "/session", Cookie=cookie[:-1])[1]


def test_a_link_elsewhere_may_lead_here(site: Http) -> None:
    """As a page that `ratite web --browser` has written does; anything but a person who goes there is refused."""
    link = {"Sec_Fetch_Site": "cross-site", "Sec_Fetch_Mode": "navigate", "Sec_Fetch_Dest": "document"}
    assert site.request("GET", "/", **link)[0] == 200
    for other in {"Sec_Fetch_Dest": "iframe"}, {"Sec_Fetch_Mode": "no-cors"}, {"Sec_Fetch_Dest": "script"}:
        assert site.request("GET", "/", **{**link, **other})[0] == 403, other
    for path in "/session", "/js/main.js", "/rpc":
        assert site.request("GET", path, **link)[0] == 403, path


BODIES = ("", "{}", "[]", "null", '{"code":null}', '{"code":7}', '{"code":"' + "x" * 40 + '"}', "[" * 4000)
HOSTS = ("evil.example", "127.0.0.1", "127.0.0.1:1", "evil.example:{port}", "[::1]:{port}", "127.1:{port}", "")
OUTSIDE = ("/../site.py", "/%2e%2e/site.py", "/js/", "/js/../../site.py", "//etc/passwd", "/metrics", "/index.html/", "/%00")


@pytest.mark.parametrize("body", BODIES)
def test_a_login_that_is_none_is_refused(site: Http, body: str) -> None:
    assert site.request("POST", "/login", body, Origin=site.origin)[0] == 401
    assert site.login()[0] == 204, "and the code is still good"


def test_a_login_that_is_too_long_is_refused(site: Http) -> None:
    assert site.request("POST", "/login", " " * 5000, Origin=site.origin)[0] == 413


@pytest.mark.parametrize("host", HOSTS)
def test_foreign_host_is_refused(site: Http, host: str) -> None:
    """DNS rebinding: a name of somebody else that leads here."""
    named = host.format(port=site.host.rpartition(":")[2])
    for path in "/", "/session", "/rpc", "/nothing":
        assert site.request("GET", path, Host=named)[0] in (400, 403), path
    assert site.login(Host=named, Origin=f"http://{named}")[0] in (400, 403)


def test_foreign_origin_is_refused(site: Http) -> None:
    for origin in "http://evil.example", "null", "https://" + site.host, "http://localhost:1", "http://127.0.0.1", "file://":
        assert site.login(Origin=origin)[0] == 403, origin
        assert site.request("GET", "/", Origin=origin)[0] == 403, origin
    body = json.dumps({"code": site.code})
    assert site.request("POST", "/login", body)[0] == 403, "a browser always sends one with a POST"
    assert site.request("GET", "/", Sec_Fetch_Site="cross-site")[0] == 403
    assert site.login()[0] == 204


def test_localhost_is_ours_too(site: Http) -> None:
    named = f"localhost:{site.host.rpartition(':')[2]}"
    assert site.request("GET", "/", Host=named)[0] == 200
    assert site.login(Host=named, Origin=f"http://{named}")[0] == 204


def test_upgrade_needs_cookie_and_origin(site: Http) -> None:
    cookie = signed_in(site)
    for headers, status in (
        ({"Origin": site.origin}, "401"),
        ({"Origin": site.origin, "Cookie": cookie[:-2]}, "401"),
        ({"Cookie": cookie}, "403"),
        ({"Cookie": cookie, "Origin": "http://evil.example"}, "403"),
        ({"Cookie": cookie, "Origin": "http://evil.example", "Host": "evil.example"}, "403"),
        ({"Authorization": f"Bearer {cookie.partition('=')[2]}", "Origin": site.origin}, "401"),
    ):
        with pytest.raises(WebSocketError, match=status):
            upgrade(site, **headers)
    sock, _ = upgrade(site, Origin=site.origin, Cookie=cookie)
    sock.close()


def test_every_answer_has_the_policy(site: Http) -> None:
    answers = [
        site.request("GET", "/"),
        site.request("GET", "/js/main.js"),
        site.request("GET", "/nothing"),
        site.request("GET", "/session"),
        site.request("GET", "/", Host="evil.example"),
        site.request("POST", "/login", "{}", Origin=site.origin),
        site.request("POST", "/login", " " * 5000, Origin=site.origin),
        site.request("PUT", "/", "", Origin=site.origin),
    ]
    assert [status for status, _, _ in answers] == [200, 200, 404, 401, 403, 401, 413, 405]
    for _, headers, _ in answers:
        policy = dict(rule.split(" ", 1) for rule in headers["content-security-policy"].split("; "))
        assert policy["default-src"] == "'none'"
        assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
        assert policy["frame-ancestors"] == policy["base-uri"] == policy["form-action"] == "'none'"
        assert "unsafe" not in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"
        assert "server" not in headers


def test_files_and_nothing_else(site: Http) -> None:
    status, headers, text = site.request("GET", "/")
    assert status == 200
    assert headers["content-type"].startswith("text/html")
    assert "<script>" not in text and "style=" not in text and "javascript:" not in text
    assert site.request("GET", "/", If_None_Match=headers["etag"])[0] == 304
    assert site.request("GET", "/vendor/xterm/xterm.mjs")[1]["content-type"].startswith("text/javascript")
    for path in OUTSIDE:
        assert site.request("GET", path)[0] in (400, 404), path
    assert site.request("POST", "/rpc", "{}", Origin=site.origin)[0] == 405, "calls come over the WebSocket alone"


def test_who_never_reads_disturbs_nobody(site: Http, control: ControlClient) -> None:
    sock, ws = upgrade(site, Origin=site.origin, Cookie=signed_in(site))
    with sock:
        sock.setblocking(False)
        params = {"instance": "echo", "execute": "query-qmp-schema"}
        call = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "instance-qmp", "params": params})
        frame = ws.text(call)
        sent, full = 0, False
        # Answers of some hundred KiB each: at some time the daemon takes no more questions.
        while not full and sent < 64 << 20:
            try:
                sent += sock.send(frame * 64)
            except BlockingIOError:
                assert control.instance_qmp(instance="echo", execute="query-status")["status"]
                full = not _writable(sock, 1.0)
        assert full, "it must stop reading from who doesn't read"
        assert control.instance_qmp(instance="echo", execute="query-status")["status"]
    assert ws.open


def _writable(sock: socket.socket, seconds: float) -> bool:
    return bool(select.select([], [sock], [], seconds)[1])


def test_neither_code_nor_token_is_in_log_or_arguments(tmp_path_factory: pytest.TempPathFactory) -> None:
    process = ControlProcess(tmp_path_factory.mktemp("log") / "sock", "--log-level", "debug")
    with process.client() as control:
        site = Http(control.web_open()["url"])
        cookie = signed_in(site)
        assert site.login()[0] == 401
        site.request("GET", "/session", Cookie=cookie, Host="evil.example")
        with pytest.raises(WebSocketError):
            upgrade(site, Origin="http://evil.example", Cookie=cookie)
        with open(f"/proc/{process.process.pid}/cmdline", "rb") as file:
            arguments = file.read()
    process.process.terminate()
    _, said = process.stopped()
    assert "refused" in said, "there is a log"
    for secret in site.code, cookie.partition("=")[2]:
        assert secret not in said
        assert secret.encode() not in arguments


def test_the_listener_ends_with_the_control_plane(tmp_path_factory: pytest.TempPathFactory) -> None:
    with ControlProcess(tmp_path_factory.mktemp("end") / "sock") as process, process.client() as control:
        site = Http(control.web_open()["url"])
        sock, _ = upgrade(site, Origin=site.origin, Cookie=signed_in(site))
        process.process.terminate()
        assert process.process.wait(20) == 0
        with sock:
            while sock.recv(1 << 16):
                pass
        with pytest.raises(OSError):
            site.request("GET", "/")
