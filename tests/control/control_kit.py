"""Helpers of the control plane's tests: the process, raw HTTP, waiting."""

from __future__ import annotations

import http.client
import json
import os
import re
import select
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from ratite.clients.control import ControlClient, ControlError, RpcError

TOKEN = "a-token-for-the-tests-0123456789"


class ControlProcess:
    """`ratited --control`, at a UNIX socket and, if given, at one more address; ended with the `with` block."""

    def __init__(self, path: Path, *options: str, address: str = "", pass_fds: tuple[int, ...] = (), **env: str) -> None:
        self.path = str(path)
        self.address = f"unix:{self.path}"
        command = [sys.executable, "-m", "ratite.daemon", "--control", self.address, *options]
        if address:
            command += ["--control", address]
        self.process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, pass_fds=pass_fds, env={**os.environ, **env}
        )

    def client(self, address: str = "", token: str | None = None) -> ControlClient:
        """A new connection, as soon as somebody listens."""
        deadline = time.monotonic() + 30
        while True:
            try:
                return ControlClient.connect(address or self.address, token)
            except ControlError:
                if self.process.poll() is not None or time.monotonic() > deadline:
                    raise
                time.sleep(0.005)

    def http(self, method: str, path: str, body: str | bytes = "", **headers: str) -> tuple[int, str]:
        """Status and text of one HTTP request at the UNIX socket."""
        return http_at(self.unix(), method, path, body, **headers)

    def post(self, message: object) -> Any:
        """What POST /rpc answers to a JSON value; None for nothing."""
        status, text = self.http("POST", "/rpc", json.dumps(message), **{"Content-Type": "application/json"})
        assert status in (200, 204), text
        return json.loads(text) if text else None

    def unix(self) -> socket.socket:
        """A connection to the UNIX socket."""
        sock = socket.socket(socket.AF_UNIX)
        sock.settimeout(10)
        sock.connect(self.path)
        return sock

    def __enter__(self) -> ControlProcess:
        self.client().close()
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop()

    def stop(self) -> int:
        """End it by SIGTERM; its exit status."""
        if self.process.poll() is None:
            self.process.terminate()
        try:
            self.process.communicate(timeout=20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.communicate()
            raise
        return self.process.returncode

    def stopped(self) -> tuple[int, str]:
        """Its exit status and all that it printed; it ends by itself or by SIGTERM sent before."""
        _, said = self.process.communicate(timeout=20)
        return self.process.returncode, said.decode()


def http_at(sock: socket.socket, method: str, path: str, body: str | bytes = "", **headers: str) -> tuple[int, str]:
    """Status and text of one HTTP request over a connected socket, which is closed."""
    connection = http.client.HTTPConnection("localhost")
    connection.sock = sock
    try:
        connection.request(method, path, body or None, headers)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


def refused(client: ControlClient, method: str, **params: Any) -> RpcError:
    """The error that a call brings."""
    try:
        result = client.call(method, {name.replace("_", "-"): value for name, value in params.items()})
    except RpcError as error:
        return error
    raise AssertionError(f"{method} must be refused, it answered {result!r}")


def gone(pid: int, seconds: float = 10) -> bool:
    """Whether a process, of anybody's, ends in time."""
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([fd], [], [], seconds)[0])
    finally:
        os.close(fd)


def threads(pid: int) -> int:
    """How many threads a process has."""
    found = re.search(r"^Threads:\s+(\d+)", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    assert found
    return int(found[1])


def free_port() -> int:
    """A TCP port of loopback that nobody had a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
