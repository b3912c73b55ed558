"""`ratite web`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from control_kit import ControlProcess
from web_kit import Http


def ratite_web(address: str, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "ratite.clients.cli", "web", *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, env={**os.environ, "RATITE_CONTROL": address})


def test_prints_an_address_that_signs_in(plane: ControlProcess) -> None:
    done = ratite_web(plane.address)
    assert done.returncode == 0, done.stderr
    (url,) = done.stdout.split()
    assert "60 seconds" in done.stderr
    assert Http(url).login()[0] == 204
    link = json.loads(ratite_web(plane.address, "--json").stdout)
    assert link["seconds"] == 60
    assert Http(link["url"]).login()[0] == 204


def test_without_a_control_plane_it_says_how_to_get_one(tmp_path: Path) -> None:
    for address in f"unix:{tmp_path}/nobody", "nonsense":
        done = ratite_web(address)
        assert done.returncode == 2
        assert "ratite serve" in done.stderr
        assert "Traceback" not in done.stderr
        assert done.stdout == ""
