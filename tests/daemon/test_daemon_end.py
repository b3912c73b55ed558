"""The daemon's end, as monitors see it."""

from __future__ import annotations

import json
import threading

from fuzz_world import World


def test_what_is_under_way_when_the_daemon_ends_is_answered_yet() -> None:
    held = threading.Event()
    with World("paused") as world:
        monitor = world.monitor(("ratite", ()), False)
        world.daemon.machine.owner.post(held.wait)
        monitor.received(b'{"execute":"human-monitor-command","arguments":{"command-line":"info status"},"id":7}', ())
        assert monitor.session.busy
        world.daemon.shutdown("host-qmp-quit")
        try:
            for _ in range(3):
                world.step()
            assert monitor.open
        finally:
            held.set()
        world.until(lambda: not monitor.open)
        answers = [json.loads(line) for line in b"".join(monitor.lines).splitlines()]
    assert "SHUTDOWN" in [answer.get("event") for answer in answers]
    (answer,) = [answer for answer in answers if "id" in answer]
    assert answer["id"] == 7 and "paused" in answer["return"]
