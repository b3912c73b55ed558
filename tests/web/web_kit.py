"""Helpers of the page's tests."""

from __future__ import annotations

import http.client
import json
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from ratite.clients.bench.chromium import Page
from ratite.clients.control import ControlClient
from ratite.clients.machines import one_cpu

ELF = Path(__file__).parents[1] / "guests" / "elf"


def assemble_echo(client: ControlClient, name: str) -> None:
    """An instance with a hart whose guest echoes, and a console; it runs."""
    client.instance_create(instance=name, no_shutdown=True)

    def qmp(command: str, arguments: dict[str, Any]) -> None:
        client.instance_qmp(instance=name, execute=command, arguments=arguments)

    qmp("machine-create", {})
    qmp("chardev-add", {"id": "con", "backend": {"type": "console", "data": {}}})
    for command, arguments in one_cpu("rv64", ELF / "echo.rv64.elf", "con", accel="interp"):
        qmp(command, arguments)
    qmp("x-exit-preconfig", {})


def show(page: Page, machine: str, tab: str) -> None:
    """Go to a machine's tab."""
    page.eval(f"location.hash = '#/m/{machine}/{tab}'")
    page.wait(f"document.querySelector('h1')?.innerText === {json.dumps(machine)}")
    page.wait(f"document.querySelector('.panel-{tab}')")


def status(client: ControlClient, machine: str) -> str:
    """Its run state, as QMP tells it."""
    found: str = client.instance_qmp(instance=machine, execute="query-status")["status"]
    return found


def drawn(page: Page) -> int:
    """How many parts the picture shows, once it is there."""
    return int(page.wait("document.querySelector('.stage[data-drawn]')?.dataset.drawn"))


class Http:
    """Plain requests to the page's listener, as a browser (or somebody who is none) may send them."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self.code = parts.fragment.removeprefix("code=")
        self.host = parts.netloc
        self.origin = f"http://{parts.netloc}"

    def request(self, method: str, path: str, body: str | None = None, **headers: str) -> tuple[int, dict[str, str], str]:
        """Status, headers and text; Host is ours unless it is given."""
        connection = http.client.HTTPConnection(self.host, timeout=10)
        try:
            connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
            for name, value in {"Host": self.host, **{key.replace("_", "-"): text for key, text in headers.items()}}.items():
                connection.putheader(name, value)
            if body is not None:
                connection.putheader("Content-Length", str(len(body)))
            connection.endheaders(None if body is None else body.encode())
            answer = connection.getresponse()
            return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read().decode()
        finally:
            connection.close()

    def login(self, code: str | None = None, **headers: str) -> tuple[int, str]:
        """Status and the cookie, "NAME=VALUE; …", of an exchange."""
        body = json.dumps({"code": self.code if code is None else code})
        given = {"Origin": self.origin, "Content-Type": "application/json", **headers}
        found, got, _ = self.request("POST", "/login", body, **given)
        return found, got.get("set-cookie", "")
