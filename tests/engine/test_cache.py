"""The object cache: whole, ours and unwritable by others, or it is not there."""

from __future__ import annotations

import errno
import io
import os
from pathlib import Path

import pytest

from ratite.core.engine.cache import ObjectCache, source_digest
from ratite.qapi.kept import key_of

KEY = key_of(b"a", b"b")


def make(tmp_path: Path) -> ObjectCache:
    return ObjectCache(system="", user=str(tmp_path / "cache"))


def test_what_was_stored_is_loaded(tmp_path: Path) -> None:
    cache = make(tmp_path)
    assert cache.load(KEY) is None
    cache.store(KEY, b"object")
    assert cache.load(KEY) == b"object"
    assert (tmp_path / "cache").stat().st_mode & 0o777 == 0o700


def test_what_root_makes_for_everybody_can_be_read(tmp_path: Path) -> None:
    place = tmp_path / "cache"
    ObjectCache(system=str(place), user=str(place)).store(KEY, b"object")
    assert (place.stat().st_mode & 0o777, (place / KEY).stat().st_mode & 0o777) == (0o755, 0o644)
    assert ObjectCache(system=str(place), user="").load(KEY) == b"object"


def test_a_folder_is_listed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = make(tmp_path)
    mine, others = cache.folder("many"), cache.folder("many")
    mine.store(KEY, b"before")
    assert others.load(KEY) == b"before"
    assert mine.load(KEY) == b"before" and mine.load(key_of(b"none")) is None
    late = key_of(b"late")
    others.store(late, b"later")
    assert others.load(late) == b"later"
    assert mine.load(late) is None, "it had listed the folder before"
    mine.store(late, b"later")
    assert mine.load(late) == b"later", "its own are seen"
    asked: list[object] = []
    monkeypatch.setattr("os.open", lambda *given, **more: asked.append(given))
    assert mine.load(key_of(b"none")) is None and not asked, "what isn't there costs no system call"


def test_keys_tell_parts_apart() -> None:
    assert key_of(b"ab", b"c") != key_of(b"a", b"bc")


@pytest.mark.parametrize("damage", ["flip", "cut", "empty", "header"])
def test_a_damaged_file_is_ignored(tmp_path: Path, damage: str) -> None:
    cache = make(tmp_path)
    cache.store(KEY, b"object" * 50)
    path = tmp_path / "cache" / KEY
    data = bytearray(path.read_bytes())
    if damage == "flip":
        data[-1] ^= 1
    elif damage == "cut":
        del data[-3:]
    elif damage == "empty":
        data.clear()
    else:
        data[3] ^= 1
    path.write_bytes(bytes(data))
    assert cache.load(KEY) is None


def test_a_file_that_others_may_write_is_ignored(tmp_path: Path) -> None:
    cache = make(tmp_path)
    cache.store(KEY, b"object")
    (tmp_path / "cache" / KEY).chmod(0o666)
    assert cache.load(KEY) is None


def test_a_folder_that_others_may_write_is_ignored(tmp_path: Path) -> None:
    cache = make(tmp_path)
    cache.store(KEY, b"object")
    (tmp_path / "cache").chmod(0o777)
    assert cache.load(KEY) is None
    cache.store(key_of(b"other"), b"object")
    assert not (tmp_path / "cache" / key_of(b"other")).exists()


def test_links_are_not_followed(tmp_path: Path) -> None:
    cache = make(tmp_path)
    cache.store(KEY, b"object")
    real = tmp_path / "cache" / KEY
    real.rename(tmp_path / "elsewhere")
    real.symlink_to(tmp_path / "elsewhere")
    assert cache.load(KEY) is None


def test_nowhere_to_write_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    ObjectCache(system="", user=str(tmp_path / "file" / "cache")).store(KEY, b"object")
    ObjectCache(system="", user="").store(KEY, b"object")


def test_files_of_others_stay(tmp_path: Path) -> None:
    """Nothing goes that no cache made: the folder's name may mean something else to somebody."""
    cache = make(tmp_path)
    cache.store(KEY, b"object")
    others = [tmp_path / "cache" / name for name in ("README", KEY[:-1], "regions-1/notes")]
    for path in others:
        path.parent.mkdir(exist_ok=True)
        path.write_text("mine")
    part = tmp_path / "cache" / ".new-abc"  # of a process that was killed
    part.write_text("half")
    assert sorted(Path(path).name for _, _, path in cache.files()) == [part.name, KEY]
    assert cache.trim(0) == 2 and all(path.exists() for path in others)


def test_a_link_in_the_place_of_the_folder_is_not_followed(tmp_path: Path) -> None:
    elsewhere = ObjectCache(system="", user=str(tmp_path / "elsewhere"))
    elsewhere.store(KEY, b"object")
    (tmp_path / "cache").symlink_to(tmp_path / "elsewhere")
    cache = make(tmp_path)
    assert not cache.usable() and cache.load(KEY) is None
    assert cache.store(key_of(b"other"), b"object") == 0 and cache.trim(0) == 0 and cache.files() == []
    assert elsewhere.usable() and len(elsewhere.files()) == 1


def test_what_cannot_be_removed_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Say, what root left in a folder of its own."""
    cache = make(tmp_path)
    other = key_of(b"other")
    for key in KEY, other:
        cache.store(key, b"object")
    remove = os.unlink

    def refused(path: str) -> None:
        if path.endswith(KEY):
            raise PermissionError(errno.EACCES, "Permission denied")
        remove(path)

    monkeypatch.setattr("os.unlink", refused)
    assert cache.trim(0) == 1 and cache.load(KEY) == b"object" and cache.load(other) is None


def test_a_file_that_cannot_be_read_is_ignored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Failing(io.FileIO):
        def read(self, size: int | None = -1) -> bytes:
            raise OSError(errno.EIO, "Input/output error")

    cache = make(tmp_path)
    cache.store(KEY, b"object")
    monkeypatch.setattr("builtins.open", Failing)
    assert cache.load(KEY) is None


def test_digest_of_sources_is_kept_until_a_file_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "generators_of_code"
    (package / "inner").mkdir(parents=True)
    for name in ("__init__.py", "inner/__init__.py", "inner/emit.py"):
        (package / name).write_text("x = 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    cache = ObjectCache("", str(tmp_path / "cache"))
    first = source_digest(cache, package.name)
    assert not cache.files()  # as young as that, a file may change once more at the same time
    monkeypatch.setattr("ratite.core.engine.cache._SETTLED", -1)
    assert source_digest(cache, package.name) == first
    (kept,) = cache.files()
    assert source_digest(cache, package.name) == first
    (package / "inner" / "emit.py").write_text("x = 12\n")
    second = source_digest(cache, package.name)
    assert second != first
    assert len(cache.files()) == 2
    assert source_digest(ObjectCache("", ""), package.name) == second
    Path(kept[2]).unlink()
    (package / "inner" / "emit.py").write_text("x = 1\n")
    assert source_digest(cache, package.name) == first


def test_kept_digest_of_sources_is_what_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "other_generators"
    package.mkdir()
    (package / "__init__.py").write_text("x = 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr("ratite.core.engine.cache._SETTLED", -1)
    cache = ObjectCache("", str(tmp_path / "cache"))
    first = source_digest(cache, package.name)
    monkeypatch.setattr("ratite.core.engine.cache._digest_of", lambda files: b"\0" * 32)
    assert source_digest(cache, package.name) == first


def test_sources_lie_where_names_are_no_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff/placed_generators"))
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("x = 1\n")
    monkeypatch.syspath_prepend(package.parent)
    assert len(source_digest(ObjectCache("", ""), package.name)) == 32
