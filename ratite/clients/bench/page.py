"""The page: how soon something is painted, and how soon a machine of 200 devices is drawn.  By a real Chromium.

Each sample is a page of its own with empty caches, from a daemon on this host.  "first paint" is the browser's own
PerformancePaintTiming, from the navigation's start.  Machines are wired, not started: no guest takes part.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable

from ratite.clients.bench.chromium import Chromium, find
from ratite.clients.bench.control import plane
from ratite.clients.bench.large import large
from ratite.clients.bench.report import Row
from ratite.clients.control import ControlClient

GOAL_MS = 300.0
_PAINT = "performance.getEntriesByName('{}')[0]?.startTime"
_LISTED = "document.querySelector('.card') && performance.now()"
_DRAWN = "document.querySelector('.stage[data-drawn]') && performance.now()"


def measure(count: int, say: Callable[[str], None]) -> list[Row]:
    """`count` pages of each kind.  Nothing where Chromium is not installed."""
    if find() is None:
        print("bench: chromium is not installed, the page is left out (Debian: chromium; make peers)")
        return []
    with tempfile.TemporaryDirectory(prefix="ratite-bench-") as folder, plane(folder) as control, Chromium() as browser:
        control.instance_create(instance="large")
        for command, arguments in large():
            control.instance_qmp(instance="large", execute=command, arguments=arguments)
        control.instance_qmp(instance="large", execute="machine-wire")
        return _samples(control, browser, count, say)


def _samples(control: ControlClient, browser: Chromium, count: int, say: Callable[[str], None]) -> list[Row]:
    first: list[float] = []
    content: list[float] = []
    listed: list[float] = []
    drawn: list[float] = []
    for number in range(count):
        say(f"page {number + 1} of {count}")
        with browser.page() as page:
            page.go(control.web_open()["url"])
            first.append(page.wait(_PAINT.format("first-paint")))
            content.append(page.wait(_PAINT.format("first-contentful-paint")))
            listed.append(page.wait(_LISTED))
            begun = page.eval("(location.hash = '#/m/large/topology', performance.now())")
            drawn.append(page.wait(_DRAWN) - begun)
    return [
        Row("page: first paint", "ms", first, (), "", False, GOAL_MS),
        Row("page: first contentful paint", "ms", content, (), "", False, GOAL_MS),
        Row("page: signed in and machines listed", "ms", listed, (), "", False),
        Row("page: a machine of 200 devices drawn", "ms", drawn, (), "", False),
    ]
