"""`ratite web`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from control_kit import ControlProcess
from web_kit import Http


def ratite_web(address: str, *words: str, **more: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "ratite.clients.cli", "web", *words]
    env = {**os.environ, "RATITE_CONTROL": address, **more}
    return subprocess.run(command, capture_output=True, text=True, timeout=60, env=env)


def test_prints_an_address_that_signs_in(plane: ControlProcess) -> None:
    done = ratite_web(plane.address)
    assert done.returncode == 0, done.stderr
    (url,) = done.stdout.split()
    assert "60 seconds" in done.stderr
    assert Http(url).login()[0] == 204
    link = json.loads(ratite_web(plane.address, "--json").stdout)
    assert link["seconds"] == 60
    assert Http(link["url"]).login()[0] == 204


def test_a_browser_gets_the_code_in_no_argument(plane: ControlProcess, tmp_path: Path) -> None:
    """Arguments of a process are read by all users of the host."""
    browser, seen = tmp_path / "browser", tmp_path / "seen"
    browser.write_text(f'#!/bin/sh\nprintf %s "$*" > {seen}\n')
    browser.chmod(0o700)
    runtime = tmp_path / "run"
    runtime.mkdir(mode=0o700)
    done = ratite_web(plane.address, "--browser", BROWSER=str(browser), XDG_RUNTIME_DIR=str(runtime))
    assert done.returncode == 0, done.stderr
    (url,) = done.stdout.split()
    place = Path(seen.read_text().removeprefix("file://"))
    assert place.is_relative_to(runtime)
    assert place.stat().st_mode & 0o777 == 0o600
    assert f'content="0; url={url}"' in place.read_text()


def test_without_a_control_plane_it_says_how_to_get_one(tmp_path: Path) -> None:
    for address in f"unix:{tmp_path}/nobody", "nonsense":
        done = ratite_web(address)
        assert done.returncode == 2
        assert "ratite serve" in done.stderr
        assert "Traceback" not in done.stderr
        assert done.stdout == ""
