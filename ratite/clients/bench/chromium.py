"""Chromium, driven over the pipe of its DevTools protocol: what the bench measures the page with, and its tests drive it by.

    with Chromium() as browser, browser.page() as page:
        page.go("http://127.0.0.1:8000/")
        page.wait("document.querySelector('h1')")
        page.press("Tab")

Blocking, one thread, no dependency.  Nothing here sleeps: conditions are waited for in the page, events on the pipe.
Specification: https://chromedevtools.github.io/devtools-protocol/
"""

from __future__ import annotations

import base64
import json
import os
import select
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
OPTIONS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--disable-extensions", "--mute-audio", "--no-default-browser-check",
    "--hide-scrollbars", "--force-color-profile=srgb", "--remote-debugging-pipe",
)  # fmt: skip
TIMEOUT = 60.0
# Keys with a name: (code, virtual key code, text).
_KEYS: Mapping[str, tuple[str, int, str]] = MappingProxyType(
    {
        "Enter": ("Enter", 13, "\r"), "Tab": ("Tab", 9, ""), "Escape": ("Escape", 27, ""), " ": ("Space", 32, " "),
        "ArrowLeft": ("ArrowLeft", 37, ""), "ArrowUp": ("ArrowUp", 38, ""), "ArrowRight": ("ArrowRight", 39, ""),
        "ArrowDown": ("ArrowDown", 40, ""), "Home": ("Home", 36, ""), "End": ("End", 35, ""), "Backspace": ("Backspace", 8, ""),
    }
)  # fmt: skip
_MODIFIERS: Mapping[str, int] = MappingProxyType({"Alt": 1, "Control": 2, "Meta": 4, "Shift": 8})
# Looks every few milliseconds of the page's own clock; a value of null, false or undefined is no answer yet.
_WAIT = """new Promise((resolve, reject) => {{
  const end = performance.now() + {ms};
  const look = async () => {{
    let value, failure;
    try {{ value = await (async () => ({expression}))(); }} catch (error) {{ failure = error; }}
    if (value !== null && value !== false && value !== undefined && failure === undefined) resolve(value);
    else if (performance.now() > end) reject(new Error({named} + " does not come true: " + (failure ?? JSON.stringify(value))
      + "; the page shows: " + document.body?.innerText.slice(0, 400)));
    else setTimeout(look, 15);
  }};
  look();
}})"""


class BrowserError(Exception):
    """The browser is gone, refused a command, or a condition did not come true."""


def find() -> str | None:
    """The program, if one is installed."""
    return next((path for name in PROGRAMS if (path := shutil.which(name))), None)


class Chromium:
    """A browser of our own with a fresh profile, gone with the `with` block."""

    def __init__(self, program: str | None = None, *options: str) -> None:
        program = program or find()
        if program is None:
            raise BrowserError("chromium is not installed")
        self._profile = tempfile.mkdtemp(prefix="ratite-chromium-")
        from_us, self._out = os.pipe()
        self._in, to_us = os.pipe()
        # The protocol wants descriptors 3 and 4; a shell puts them there, which no thread of ours can disturb.
        redirect = f'exec "$0" "$@" 3<&{from_us} 4>&{to_us}'
        command = ["/bin/bash", "-c", redirect, program, *OPTIONS, f"--user-data-dir={self._profile}", *options, "about:blank"]
        try:
            self._process = subprocess.Popen(
                command, pass_fds=(from_us, to_us), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )  # fmt: skip
        finally:
            os.close(from_us)
            os.close(to_us)
        self._buffer = bytearray()
        self._count = 0
        self._pages: dict[str, Page] = {}

    def __enter__(self) -> Chromium:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """End it."""
        try:
            self.call("Browser.close")
            self._process.wait(10)
        except (BrowserError, OSError, subprocess.TimeoutExpired):
            self._process.kill()
            self._process.wait()
        os.close(self._in)
        os.close(self._out)
        shutil.rmtree(self._profile, ignore_errors=True)

    def page(self, width: int = 1280, height: int = 800) -> Page:
        """A page of its own, with cookies of its own."""
        context = self.call("Target.createBrowserContext", disposeOnDetach=True)["browserContextId"]
        target = self.call("Target.createTarget", url="about:blank", browserContextId=context, width=width, height=height)
        session = self.call("Target.attachToTarget", targetId=target["targetId"], flatten=True)["sessionId"]
        page = self._pages[session] = Page(self, session, context)
        for domain in ("Page", "Runtime", "Log", "Network"):
            page.call(f"{domain}.enable")
        page.size(width, height)
        return page

    def forget(self, session: str, context: str) -> None:
        """A page is closed."""
        if self._pages.pop(session, None) is not None:
            self.call("Target.disposeBrowserContext", browserContextId=context)

    def call(self, method: str, session: str = "", **params: Any) -> dict[str, Any]:
        """What a command answers.  BrowserError."""
        self._count += 1
        message: dict[str, Any] = {"id": self._count, "method": method, "params": params}
        if session:
            message["sessionId"] = session
        os.write(self._out, json.dumps(message).encode() + b"\0")
        number, end = self._count, time.monotonic() + TIMEOUT
        while True:
            answer = self._receive(end, method)
            if answer.get("id") != number:
                continue
            if "error" in answer:
                raise BrowserError(f"{method}: {answer['error']['message']}")
            result: dict[str, Any] = answer["result"]
            return result

    def until(self, true: Callable[[], bool], what: str) -> None:
        """Take events until something holds.  BrowserError."""
        end = time.monotonic() + TIMEOUT
        while not true():
            self._receive(end, what)

    def _receive(self, end: float, what: str) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            if not select.select([self._in], [], [], max(0.0, end - time.monotonic()))[0]:
                raise BrowserError(f"{what}: nothing came within {TIMEOUT:g} s")
            data = os.read(self._in, 1 << 20)
            if not data:
                raise BrowserError(f"{what}: the browser is gone")
            self._buffer += data
        text, _, rest = bytes(self._buffer).partition(b"\0")
        self._buffer = bytearray(rest)
        message: dict[str, Any] = json.loads(text)
        page = self._pages.get(message.get("sessionId", ""))
        if page is not None and "method" in message:
            page.take(message["method"], message["params"])
        return message


class Page:
    """One page.  `complaints` are errors of scripts, refused loads and broken policies, as the console tells them."""

    def __init__(self, browser: Chromium, session: str, context: str) -> None:
        self._browser = browser
        self._session = session
        self._context = context
        self.complaints: list[str] = []
        self.requests: list[str] = []
        self._loaded = False

    def __enter__(self) -> Page:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """End it, with its cookies."""
        self._browser.forget(self._session, self._context)

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """A command of the protocol."""
        return self._browser.call(method, self._session, **params)

    def take(self, event: str, params: Mapping[str, Any]) -> None:
        """An event of the protocol."""
        if event == "Page.loadEventFired":
            self._loaded = True
        elif event == "Runtime.exceptionThrown":
            details = params["exceptionDetails"]
            self.complaints.append(details.get("exception", {}).get("description") or details["text"])
        elif event == "Log.entryAdded" and params["entry"]["level"] == "error":
            self.complaints.append(f"{params['entry']['text']} {params['entry'].get('url', '')}")
        elif event == "Runtime.consoleAPICalled" and params["type"] == "error":
            self.complaints.append(" ".join(str(each.get("value", each.get("description"))) for each in params["args"]))
        elif event == "Network.requestWillBeSent":
            self.requests.append(params["request"]["url"])

    # -- where and how large

    def go(self, url: str) -> None:
        """Load a URL, to its load event."""
        self._loaded = False
        # Without a loader it is the same document, at another place in it.
        if "loaderId" in self.call("Page.navigate", url=url):
            self._browser.until(lambda: self._loaded, f"loading {url.partition('#')[0]}")

    def size(self, width: int, height: int, scale: float = 1.0) -> None:
        """The window's size in CSS pixels; `scale` pixels of the screen to each."""
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=scale, mobile=False)

    def prefer(self, scheme: str) -> None:
        """The system's colours: "light" or "dark"."""
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])

    def screenshot(self) -> bytes:
        """A PNG of the window."""
        return base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"])

    # -- looking and doing

    def eval(self, expression: str) -> Any:
        """The value of an expression; promises are awaited.  BrowserError with the page's own error."""
        answer = self.call("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True, userGesture=True)
        if "exceptionDetails" in answer:
            details = answer["exceptionDetails"]
            raise BrowserError(details.get("exception", {}).get("description") or details["text"])
        return answer["result"].get("value")

    def wait(self, expression: str, seconds: float = 30.0) -> Any:
        """The expression's first value that is neither false, null nor undefined.  BrowserError when none comes in time."""
        return self.eval(_WAIT.format(expression=expression, ms=int(seconds * 1000), named=json.dumps(expression)))

    def text(self, selector: str) -> str:
        """The text of the first element that the selector finds, once there is one."""
        return str(self.wait(f"document.querySelector({json.dumps(selector)})?.innerText"))

    def press(self, key: str, *modifiers: str) -> None:
        """A key, by its name or its letter."""
        code, number, text = _KEYS.get(key) or (f"Key{key.upper()}" if key.isalpha() else "", ord(key.upper()), key)
        held = sum(_MODIFIERS[each] for each in modifiers)
        common = {"key": key, "code": code, "windowsVirtualKeyCode": number, "modifiers": held}
        typed = {"text": text} if text and not held & ~_MODIFIERS["Shift"] else {}
        self.call("Input.dispatchKeyEvent", type="keyDown", **common, **typed)
        self.call("Input.dispatchKeyEvent", type="keyUp", **common)

    def type(self, text: str) -> None:
        """A text, key by key."""
        for letter in text:
            self.press("Enter" if letter == "\n" else letter)

    def click(self, selector: str) -> None:
        """The middle of the first element that the selector finds, with the mouse."""
        place = self.wait(
            f"(() => {{ const e = document.querySelector({json.dumps(selector)}); if (!e || e.disabled) return null;"
            " e.scrollIntoView({block: 'nearest', inline: 'nearest'}); const r = e.getBoundingClientRect();"
            " return r.width && r.height ? [r.x + r.width / 2, r.y + r.height / 2] : null; })()"
        )
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, x=place[0], y=place[1], button="left", clickCount=1)

    def cookies(self) -> list[dict[str, Any]]:
        """The page's cookies."""
        found: list[dict[str, Any]] = self.call("Network.getCookies")["cookies"]
        return found
