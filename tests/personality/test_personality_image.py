"""Images of modules: what counts, and that whatever doesn't is found by its path as if there were none."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import ratite
from ratite.daemon.personality import image

ROOT = Path(ratite.__file__).parent.parent
PROGRAM = """
import sys
sys.path[:0] = {path!r}
from ratite.daemon.personality import image
image.use({image!r})
import json, toy, toy.part
print(json.dumps([toy.SAID, toy.part.SAID, toy.__path__, toy.part.__file__,
                  [type(m.__loader__).__module__ for m in (toy, toy.part)]]))
"""
BY_IMAGE, BY_PATH = "ratite.daemon.personality.image", "_frozen_importlib_external"


@pytest.fixture
def toy(tmp_path: Path) -> Path:
    """The folder of a package of two modules, of which there is an image beside it."""
    package = tmp_path / "toy"
    package.mkdir()
    (package / "__init__.py").write_text("SAID = 'one'\n")
    (package / "part.py").write_text("SAID = 'two'\n")
    program = f"import sys; sys.path[:0] = {[str(ROOT), str(tmp_path)]!r}; import toy.part\n"
    program += f"from ratite.daemon.personality import image; image.write({str(tmp_path / image.NAME)!r}, list(sys.modules))"
    subprocess.run([sys.executable, "-IS", "-c", program], check=True)
    return tmp_path


def imported(folder: Path) -> tuple[list[str], list[str]]:
    """What the two modules say, and who loaded them."""
    text = PROGRAM.format(path=[str(ROOT), str(folder)], image=str(folder / image.NAME))
    done = subprocess.run([sys.executable, "-IS", "-c", text], check=True, capture_output=True, text=True)
    assert not done.stderr
    *said, places, file, loaders = json.loads(done.stdout)
    assert places == [str(folder / "toy")] and file == str(folder / "toy" / "part.py")
    return said, loaders


def test_modules_come_from_the_image(toy: Path) -> None:
    assert imported(toy) == (["one", "two"], [BY_IMAGE, BY_IMAGE])


def test_a_module_whose_source_has_changed_comes_from_its_source(toy: Path) -> None:
    part = toy / "toy" / "part.py"
    before = part.stat()
    part.write_text("SAID = 'new'\n")
    os.utime(part, ns=(before.st_atime_ns, before.st_mtime_ns + 1_000_000_000))
    assert imported(toy) == (["one", "new"], [BY_IMAGE, BY_PATH])
    part.write_text("SAID = 'longer'\n")
    os.utime(part, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert imported(toy) == (["one", "longer"], [BY_IMAGE, BY_PATH])


def test_an_image_that_others_may_write_or_that_is_none_is_not_used(toy: Path) -> None:
    file = toy / image.NAME
    good = file.read_bytes()
    file.chmod(0o664)
    assert imported(toy)[1] == [BY_PATH, BY_PATH]
    file.chmod(0o644)
    head = good.index(b"\n") + 1
    broken = (b"", b"ratite-modules", good[:head], good[:head] + b"x" * 8, good[: head + 20], good[:-1])
    for bad in (*broken, good.replace(b"cpython", b"another", 1)):
        file.write_bytes(bad)
        assert imported(toy)[1] == [BY_PATH, BY_PATH]
    file.unlink()
    file.symlink_to(toy / "elsewhere")
    (toy / "elsewhere").write_bytes(good)
    assert imported(toy)[1] == [BY_PATH, BY_PATH]
    file.unlink()
    os.mkfifo(file, 0o644)
    assert imported(toy)[1] == [BY_PATH, BY_PATH]


@pytest.mark.skipif(os.geteuid() != 0, reason="gives files away")
def test_somebody_elses_image_is_not_used(toy: Path) -> None:
    os.chown(toy / image.NAME, 12345, -1)
    assert imported(toy)[1] == [BY_PATH, BY_PATH]


def test_shims_start_from_an_image(tmp_path: Path) -> None:
    """And it has the sources' code of all that a start imports of ratite."""
    command = [sys.executable, "-m", "ratite.daemon.personality.install", "--json", "--", str(tmp_path)]
    done = subprocess.run(command, check=True, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)})
    shim = next(file for file in json.loads(done.stdout) if file.endswith("microblaze"))
    text = Path(shim).read_text().replace("sys.exit(main(", "status = (main(")
    text += "\nprint(*{type(m.__loader__).__module__ for n, m in sys.modules.items() if n.startswith('ratite.')})\n"
    asked = b'{"execute": "qmp_capabilities"}{"execute": "quit"}'
    words = ["-M", "none", "-qmp", "stdio", "-display", "none"]
    begun = subprocess.run([sys.executable, "-IS", "-c", text, *words], input=asked, check=True, capture_output=True)
    # The packages above the image's own module, and that itself, are imported before.
    assert sorted(begun.stdout.split()[-2:]) == [BY_PATH.encode(), BY_IMAGE.encode()]
