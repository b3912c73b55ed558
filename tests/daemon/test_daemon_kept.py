"""What `ratited` imports, kept for its next start."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

import ratite
from ratite.clients.qmp import Client
from ratite.daemon import kept
from ratite.daemon.personality import image

ROOT = Path(ratite.__file__).parent.parent
PROGRAM = """
import json, sys
from ratite.daemon import kept
kept.use()
import {modules}
print(json.dumps([type(sys.modules[name].__loader__).__module__ == "ratite.daemon.personality.image" for name in {names!r}]))
kept.keep()
"""


def start(home: Path, *names: str) -> list[bool]:
    """Imports these modules, and has all kept; whether each came from what was kept before."""
    program = PROGRAM.format(modules=", ".join(names), names=names)
    env = {**os.environ, "XDG_CACHE_HOME": str(home), "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True, env=env)
    assert not done.stderr
    found: list[bool] = json.loads(done.stdout)
    return found


def images(home: Path) -> list[Path]:
    return sorted((home / "ratite" / kept.FOLDER).iterdir())


def test_each_start_adds_what_was_not_there(tmp_path: Path) -> None:
    assert start(tmp_path, "ratite.core.bus", "fractions") == [False, False]
    assert start(tmp_path, "ratite.core.bus", "ratite.core.clock") == [True, False]
    file, = images(tmp_path)
    before = file.stat()
    os.utime(file, ns=(0, 0))
    assert start(tmp_path, "fractions", "ratite.core.bus", "ratite.core.clock") == [True] * 3
    assert images(tmp_path) == [file] and file.stat().st_ino == before.st_ino, "nothing was lacking"
    assert file.stat().st_mtime > 0, "but it was of use"
    assert file.stat().st_mode & 0o777 == 0o600


def test_other_packages_modules_are_not_kept(tmp_path: Path) -> None:
    assert start(tmp_path, "yaml") == start(tmp_path, "yaml") == [False]


def test_it_counts_only_where_nobody_else_could_have_written_it(tmp_path: Path) -> None:
    start(tmp_path, "ratite.core.bus")
    folder = tmp_path / "ratite" / kept.FOLDER
    for mode in 0o770, 0o707:
        folder.chmod(mode)
        assert start(tmp_path, "ratite.core.bus") == [False]
    folder.chmod(0o700)
    file, = images(tmp_path)
    file.chmod(0o620)
    assert start(tmp_path, "ratite.core.bus") == [False]
    assert start(tmp_path, "ratite.core.bus") == [True], "one of our own has taken its place"
    elsewhere = tmp_path / "elsewhere"
    folder.rename(elsewhere)
    folder.symlink_to(elsewhere)
    assert start(tmp_path, "ratite.core.bus") == [False]


def test_what_is_spoilt_is_done_without_and_made_anew(tmp_path: Path) -> None:
    """As by a host that lost power before all was written."""
    names = "ratite.core.bus", "ratite.core.clock"
    start(tmp_path, *names)
    file, = images(tmp_path)
    whole = file.read_bytes()
    begin = whole.index(b"\n") + 1
    index = begin + 8 + int(whole[begin:begin + 8])
    for known in index, begin + 8:
        file.write_bytes(whole[:known].ljust(len(whole), b"\0"))
        start(tmp_path, *names)
        start(tmp_path, *names)
        assert start(tmp_path, *names) == [True, True]


def test_a_path_may_have_bytes_that_are_no_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = os.fsdecode(os.fsencode(tmp_path) + b"/\xff")
    monkeypatch.setattr(f"{__name__}.ROOT", f"{ROOT}{os.pathsep}{folder}")
    start(tmp_path, "ratite.core.bus")
    assert start(tmp_path, "ratite.core.bus") == [True]


@pytest.mark.skipif(sys.platform == "win32", reason="needs descriptors of folders")
def test_an_image_has_no_standard_streams_place(tmp_path: Path) -> None:
    """Which a daemon gives to the null device, or to whatever is opened next."""
    start(tmp_path, "ratite.core.bus")
    file, = images(tmp_path)
    program = f"""
import os
from ratite.daemon.personality import image
assert image.opened({str(file)!r}) is not None
os.close(0)
assert image.opened({str(file)!r}) is None
assert os.open(os.devnull, os.O_RDONLY) == 0, "and it is closed"
"""
    subprocess.run([sys.executable, "-c", program], check=True, env={**os.environ, "PYTHONPATH": str(ROOT)})


def test_a_home_that_is_not_there_is_not_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As that of many a service's user; root could make it."""
    monkeypatch.setenv("HOME", str(tmp_path / "none"))
    assert start(Path(), "ratite.core.bus") == [False]
    assert not list(tmp_path.iterdir())
    monkeypatch.setenv("HOME", str(tmp_path))
    assert start(Path(), "ratite.core.bus") == [False]
    assert [file.parent for file in images(tmp_path / ".cache")] == [tmp_path / ".cache" / "ratite" / kept.FOLDER]


def test_a_place_that_is_none_is_done_without(tmp_path: Path) -> None:
    (tmp_path / "ratite").write_text("")
    assert start(tmp_path, "ratite.core.bus") == [False]
    assert start(tmp_path / "ratite", "ratite.core.bus") == [False]


def test_code_of_an_image_is_not_kept_for_a_source_that_changed_since(tmp_path: Path) -> None:
    """A module that came from an image and whose file is another by now isn't what that file says."""
    (tmp_path / "toykept.py").write_text("SAID = 1\n")
    program = f"""
import os, sys
sys.path[:0] = [{str(tmp_path)!r}]
from ratite.daemon.personality import image
import toykept
image.write({str(tmp_path / "image")!r}, ["toykept"])
del sys.modules["toykept"]
image.use({str(tmp_path / "image")!r})
import toykept
finder = sys.meta_path[0]
assert b"toykept" in image.packed(["toykept"], finder.fresh())
open({str(tmp_path / "toykept.py")!r}, "a").write("SAID = 2\\n")
assert not finder.has("toykept") and not finder.fresh()
assert b"toykept" not in image.packed(["toykept"], finder.fresh())
"""
    subprocess.run([sys.executable, "-c", program], check=True, env={**os.environ, "PYTHONPATH": str(ROOT)})


@pytest.mark.skipif(sys.platform == "win32", reason="needs descriptors of folders")
def test_a_daemon_starts_from_what_the_one_before_kept(tmp_path: Path) -> None:
    path = str(tmp_path / "qmp")
    program = (
        "import sys, ratite.daemon.dispatch as d\n"
        "execute = d.Dispatcher.execute\n"
        "def watched(self, connection, request):\n"
        "    loaders = {type(m.__loader__).__module__ for n, m in sys.modules.items() if n.startswith('ratite.qapi.t')}\n"
        "    print(*loaders, flush=True)\n"
        "    execute(self, connection, request)\n"
        "d.Dispatcher.execute = watched\n"
    )
    env = {**os.environ, "XDG_CACHE_HOME": str(tmp_path), "PYTHONPATH": str(ROOT)}
    said = []
    for watch in False, True:
        text = "from ratite.daemon import kept, __main__\nkept.use()\n" + (program if watch else "")
        command = [sys.executable, "-c", text + "__main__.run()\n", "--qmp", f"unix:{path}"]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=env)
        with Client.connect(f"unix:{path}", timeout=60) as qmp:
            deadline = time.monotonic() + 60
            while not watch and not any(not file.name.startswith(".") for file in _listed(tmp_path)):
                assert time.monotonic() < deadline
                qmp.execute("query-status")
            qmp.execute("quit")
        assert process.stdout is not None
        said.append(process.stdout.read().split())
        assert process.wait(60) == 0
        process.stdout.close()
    assert said == [[], [image.__name__]]


def _listed(home: Path) -> list[Path]:
    try:
        return images(home)
    except FileNotFoundError:
        return []
