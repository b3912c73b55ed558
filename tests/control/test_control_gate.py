"""Who may come in, and clients that mean no good."""

from __future__ import annotations

import asyncio
import base64
import os
import signal
import socket
import ssl
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from control_kit import TOKEN, ControlProcess, free_port, http_at

from ratite.clients.control import ControlClient, ControlError
from ratite.daemon.control import server as server_module
from ratite.daemon.control.gate import Gate, GateError, Refused, read_token
from ratite.daemon.control.main import main_address
from ratite.daemon.control.plane import ControlPlane, Settings
from ratite.daemon.log import Log

Start = Callable[..., ControlProcess]
UPGRADE = {
    "Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": base64.b64encode(bytes(16)).decode(),
}  # fmt: skip
CALL = '{"jsonrpc":"2.0","id":1,"method":"instance-list"}'


@pytest.fixture(scope="module")
def token_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("token") / "token"
    path.write_text(TOKEN + "\n")
    path.chmod(0o600)
    return path


@pytest.fixture(scope="module")
def port() -> int:
    return free_port()


@pytest.fixture(scope="module")
def tcp(tmp_path_factory: pytest.TempPathFactory, token_file: Path, port: int) -> Iterator[ControlProcess]:
    """One that serves TCP too."""
    place = tmp_path_factory.mktemp("control") / "sock"
    options = ["--token-file", str(token_file), "--host-name", "emulators.example"]
    with ControlProcess(place, *options, address=f"tcp:127.0.0.1:{port}") as process:
        process.client(f"tcp:127.0.0.1:{port}", TOKEN).close()
        yield process


def get(port: int, method: str = "GET", path: str = "/metrics", body: str = "", **headers: str) -> int:
    """The status of a request over TCP; by default one that is let in."""
    given = {"Host": f"127.0.0.1:{port}", "Authorization": f"Bearer {TOKEN}", **headers}
    sock = socket.create_connection(("127.0.0.1", port), 10)
    return http_at(sock, method, path, body, **{name: value for name, value in given.items() if value != "-"})[0]


def test_a_token_opens(tcp: ControlProcess, port: int) -> None:
    assert get(port) == 200
    with tcp.client(f"tcp:127.0.0.1:{port}", TOKEN) as client:
        assert client.instance_list() == []


@pytest.mark.parametrize("path", ["/metrics", "/rpc", "/nope"])
@pytest.mark.parametrize(
    "given", ["-", "", "Bearer", "Bearer ", f"Bearer {TOKEN}x", f"Bearer {TOKEN[:-1]}", f"Basic {TOKEN}", "Bearer \xff"]
)
def test_no_or_a_wrong_token(tcp: ControlProcess, port: int, path: str, given: str) -> None:
    assert get(port, path=path, Authorization=given) == 401


def test_no_token_no_websocket(tcp: ControlProcess, port: int) -> None:
    with pytest.raises(ControlError, match="401"):
        ControlClient.connect(f"tcp:127.0.0.1:{port}")


@pytest.mark.parametrize(
    "host",
    ["evil.example", "evil.example:{port}", "127.0.0.1:1", "127.0.0.1.evil.example:{port}", "", "[::1", "localhost:",
     "localhost.", "127.0.0.1.", "127.1", "0.0.0.0", "[::]", "[::1]:1", "localhost:" + "9" * 5000, "localhost@evil.example",
     "127.0.0.1:{port}:1", "[::ffff:127.0.0.1]"],
)
def test_a_host_that_is_not_us(tcp: ControlProcess, port: int, host: str) -> None:
    """What a browser sends whose name server was made to say 127.0.0.1."""
    assert get(port, Host=host.replace("{port}", str(port))) == 403


def test_hosts_that_are_us(tcp: ControlProcess, port: int) -> None:
    for host in (f"127.0.0.1:{port}", f"localhost:{port}", "LOCALHOST", f"emulators.example:{port}"):
        assert get(port, Host=host) == 200


@pytest.mark.parametrize(
    "origin",
    ["http://evil.example", "null", "https://127.0.0.1:{port}", "http://127.0.0.1", "http://localhost:{port}", "http://["],
)
def test_a_foreign_origin(tcp: ControlProcess, port: int, origin: str) -> None:
    origin = origin.replace("{port}", str(port))
    assert get(port, Origin=origin) == 403
    assert get(port, path="/rpc", Origin=origin, **UPGRADE) == 403
    assert get(port, "POST", "/rpc", CALL, Origin=origin, **{"Content-Type": "application/json"}) == 403


class Request(SimpleNamespace):
    """As much of a request as the gate looks at."""


def request_at(family: int | None, address: tuple[str, int] = ("127.0.0.1", 80), **headers: str) -> Any:
    sock = SimpleNamespace(family=family, getsockname=lambda: address)
    transport = None if family is None else SimpleNamespace(get_extra_info=lambda name: sock)
    return Request(headers=headers, transport=transport, secure=False)


def test_only_unix_sockets_go_without_a_token(token_file: Path) -> None:
    """A client that goes away at once has no socket any more by which it could be told from one of a UNIX socket."""
    gate = Gate(str(token_file))
    gate.check(request_at(socket.AF_UNIX))
    for family in (None, socket.AF_INET, socket.AF_INET6, socket.AF_VSOCK):
        with pytest.raises(Refused):
            gate.check(request_at(family, Host="127.0.0.1"))


def test_ipv4_at_a_socket_of_ipv6(token_file: Path) -> None:
    gate = Gate(str(token_file))
    token = {"Authorization": f"Bearer {TOKEN}"}
    gate.check(request_at(socket.AF_INET6, ("::ffff:127.0.0.1", 80), Host="127.0.0.1", **token))
    gate.check(request_at(socket.AF_INET6, ("::1", 80), Host="[::1]:80", **token))
    with pytest.raises(Refused):
        gate.check(request_at(socket.AF_INET6, ("::ffff:10.0.0.1", 80), Host="localhost", **token))


def test_heads_and_bodies_that_do_not_come_to_an_end(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(server_module, "IDLE_SECONDS", 0.05)
    monkeypatch.setattr(server_module, "BODY_SECONDS", 0.05)

    async def work() -> None:
        loop = asyncio.get_running_loop()
        server = server_module.ControlServer(ControlPlane(loop, Log("error"), Settings()), Gate())
        await server.start()
        path = await server.listen(f"unix:{tmp_path}/sock")
        for said in (b"", b"POST /rpc HTTP/1.1\r\nHost: a\r\nX-", b"POST /rpc HTTP/1.1\r\nHost: a\r\n"
                     b"Content-Type: application/json\r\nContent-Length: 100\r\n\r\n{"):  # fmt: skip
            reader, writer = await asyncio.open_unix_connection(str(path))
            writer.write(said)
            answer = await asyncio.wait_for(reader.read(), 30)
            assert not answer or answer.startswith(b"HTTP/1.1 408 ")
            writer.close()
        await server.close()

    asyncio.run(work())


def test_our_own_origin_and_other_sites(tcp: ControlProcess, port: int) -> None:
    assert get(port, Origin=f"http://127.0.0.1:{port}") == 200
    assert get(port, **{"Sec-Fetch-Site": "cross-site"}) == 403
    assert get(port, "POST", "/rpc", CALL, **{"Content-Type": "text/plain"}) == 415
    assert tcp.http("GET", "/metrics", Origin="http://localhost")[0] == 403
    assert tcp.http("GET", "/metrics")[0] == 200


def test_the_token_is_nowhere_to_be_seen(tmp_path: Path, token_file: Path) -> None:
    port = free_port()
    process = ControlProcess(
        tmp_path / "sock", "--token-file", str(token_file), "--log-level", "debug", address=f"tcp:127.0.0.1:{port}"
    )
    process.client(f"tcp:127.0.0.1:{port}", TOKEN).close()
    assert get(port, Authorization=f"Basic {TOKEN}") == 401
    with process.client() as client:
        zygote = client.control_info()["zygote-pid"]
    for pid in (process.process.pid, zygote):
        assert TOKEN.encode() not in Path(f"/proc/{pid}/cmdline").read_bytes() + Path(f"/proc/{pid}/environ").read_bytes()
    process.process.terminate()
    status, said = process.stopped()
    assert status == 0 and TOKEN not in said and "401" in said


def test_sighup_reads_the_token_again(start: Start, tmp_path: Path) -> None:
    token, port = tmp_path / "token", free_port()
    token.write_text(TOKEN)
    token.chmod(0o600)
    address = f"tcp:127.0.0.1:{port}"
    process = start("--token-file", str(token), "--log-level", "info", address=address)
    before = process.client(address, TOKEN)
    for text, works in (("another-token-of-the-tests", "another-token-of-the-tests"), ("short", "another-token-of-the-tests")):
        token.write_text(text)
        process.process.send_signal(signal.SIGHUP)
        said = ""
        while "token" not in said:
            assert process.process.stderr
            said = process.process.stderr.readline().decode()
        assert get(port, Authorization=f"Bearer {works}") == 200
        assert get(port) == 401
    assert before.instance_list() == [], "who is in stays in"
    before.close()


# -- starting


def test_tcp_needs_a_token_and_off_loopback_tls(tmp_path: Path, token_file: Path) -> None:
    port = free_port()
    status, said = ControlProcess(tmp_path / "a", address=f"tcp:127.0.0.1:{port}").stopped()
    assert status == 1 and "needs --token-file" in said
    status, said = ControlProcess(tmp_path / "b", "--token-file", str(token_file), address=f"tcp:0.0.0.0:{port}").stopped()
    assert status == 1 and "TLS is needed" in said
    assert not (tmp_path / "a").exists() and not (tmp_path / "b").exists()


def test_token_files(tmp_path: Path) -> None:
    path = tmp_path / "t"
    for text, mode in ((TOKEN, 0o644), (TOKEN, 0o640), ("short", 0o600), ("", 0o600), ("a b" * 10, 0o600), ("x" * 5000, 0o600)):
        path.write_text(text)
        path.chmod(mode)
        with pytest.raises(GateError) as error:
            read_token(str(path))
        assert not text or text not in str(error.value)
    with pytest.raises(GateError):
        Gate(str(tmp_path / "nope"))
    with pytest.raises(GateError):
        read_token(str(tmp_path))


def test_tls(start: Start, tmp_path: Path, token_file: Path) -> None:
    cert, key, port = tmp_path / "cert", tmp_path / "key", free_port()
    made = subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
         "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost", "-keyout", str(key), "-out", str(cert)],
        capture_output=True, check=False)  # fmt: skip
    assert made.returncode == 0, made.stderr
    address = f"tls:localhost:{port}"
    options = ["--token-file", str(token_file), "--tls-cert", str(cert), "--tls-key", str(key)]
    process = start(*options, address=f"tcp:127.0.0.1:{port}")
    with ControlClient.connect(address, TOKEN, tls=ssl.create_default_context(cafile=str(cert))) as client:
        assert client.control_info()["pid"] == process.process.pid
    with pytest.raises(ControlError):
        ControlClient.connect(address, TOKEN)


def test_a_socket_of_systemd(tmp_path: Path) -> None:
    path = tmp_path / "sock"
    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
        listener.bind(str(path))
        listener.listen()
        notify.bind(str(tmp_path / "notify"))
        notify.settimeout(30)
        # As systemd does it: the socket is descriptor 3, and the variables name the process itself.
        program = (
            "import os,sys; os.dup2(int(sys.argv[1]), 3); os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS='1');"
            "os.execv(sys.executable, [sys.executable, '-m', 'ratite.daemon', '--control', 'systemd'])"
        )
        process = subprocess.Popen(
            [sys.executable, "-c", program, str(listener.fileno())], pass_fds=(listener.fileno(), 3),
            env={**os.environ, "NOTIFY_SOCKET": str(tmp_path / "notify")}, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            assert notify.recv(100) == b"READY=1"
            with ControlClient.connect(f"unix:{path}") as client:
                client.instance_create()
            process.terminate()
            assert notify.recv(100) == b"STOPPING=1"
            assert process.wait(20) == 0
            assert path.exists(), "it is systemd's"
        finally:
            process.kill()
            process.wait()


def test_the_default_address_is_a_folder_of_ours_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from ratite.daemon.qmp.address import AddressError

    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    assert main_address() == f"unix:{tmp_path}/ratite/control.sock"
    (tmp_path / "ratite").chmod(0o777)
    with pytest.raises(AddressError, match="nobody else may write"):
        main_address()


# -- clients that mean no good


def test_bodies_and_frames_that_are_too_long(shared: ControlProcess, control: ControlClient) -> None:
    big = '{"x":"' + "x" * (5 << 20) + '"}'
    assert shared.http("POST", "/rpc", big, **{"Content-Type": "application/json"})[0] == 413
    with shared.client() as other, pytest.raises((ControlError, OSError)):
        other._sock.sendall(other.frame(big))
        other.next_notification(10)
    assert control.instance_list() == []


def frame(kind: int, payload: bytes) -> bytes:
    """What our client never sends, masked with zero."""
    return bytes((0x80 | kind, 0x80 | len(payload), 0, 0, 0, 0)) + payload


def test_frames_that_are_no_text(shared: ControlProcess, control: ControlClient) -> None:
    with shared.client() as other:
        other._sock.sendall(frame(2, b"\0\1"))
        assert other.instance_list() == []
        other._sock.sendall(frame(1, b"\xff\xfe"))
        with pytest.raises(ControlError):
            other.next_notification(10)
    assert control.instance_list() == []


def test_a_websocket_that_never_reads_is_cut_off_and_nobody_waits(shared: ControlProcess, control: ControlClient) -> None:
    control.instance_create(instance="loud", limits={"events": 16})
    with shared.client() as deaf:
        deaf.instance_subscribe(instance="loud")
        deaf._sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        # Its answers fill its socket; then its events wait, and are one too many.
        for _ in range(200):
            deaf._sock.sendall(deaf.frame(CALL.replace("instance-list", "rpc.discover")))
            control.instance_qmp(instance="loud", execute="view-select", arguments={"personality": "ratite"})
        control.instance_qmp(instance="loud", execute="machine-create")
        for name in range(40):
            if control.instance_inspect(instance="loud")["subscribers"] == 0:
                break
            view = {"qom-type": "address-space", "id": f"v{name}"}
            control.instance_qmp(instance="loud", execute="object-add", arguments=view)
            arguments = {"qom-type": "cpu-cluster", "id": f"c{name}", "target": ("riscv64", "microblaze")[name % 2],
                         "address-space": f"v{name}"}  # fmt: skip
            control.instance_qmp(instance="loud", execute="object-add", arguments=arguments)
            control.instance_qmp(instance="loud", execute="object-del", arguments={"id": f"c{name}"})
        assert control.instance_inspect(instance="loud")["subscribers"] == 0
    assert control.instance_qmp(instance="loud", execute="query-name") == {"name": "loud"}
