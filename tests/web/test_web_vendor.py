"""What the page has from others: byte for byte what the manifest says, each with its licence."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path

import pytest

from ratite.daemon.web.site import STATIC, load_files

VENDOR = Path(STATIC) / "vendor"
MANIFEST = json.loads((VENDOR / "MANIFEST.json").read_text())


@pytest.mark.parametrize("package", MANIFEST["packages"], ids=lambda package: package["package"])
def test_files_are_those_of_the_manifest(package: dict) -> None:
    folder = VENDOR / package["folder"]
    assert sorted(path.name for path in folder.iterdir()) == sorted(package["files"])
    for name, facts in package["files"].items():
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == facts["sha256"], name
    assert "LICENSE" in package["files"]
    assert package["license"] in ("MIT", "BSD-3-Clause", "EPL-2.0")
    assert re.fullmatch(r"\d+\.\d+\.\d+", package["version"])
    assert package["tarball-integrity"].startswith("sha512-")


def test_nothing_is_there_that_the_manifest_doesn_t_name() -> None:
    there = {path.name for path in VENDOR.iterdir()}
    assert there == {"MANIFEST.json", *(package["folder"] for package in MANIFEST["packages"])}


def test_every_import_of_the_page_is_a_file_of_the_page() -> None:
    files = load_files()
    found = 0
    for name, file in files.items():
        if not name.startswith("js/"):
            continue
        text = file.data.decode()
        assert "http://" not in text.replace("http://www.w3.org/2000/svg", "") and "https://" not in text, name
        assert "innerHTML" not in text and "eval(" not in text, name
        for target in re.findall(r"""(?:from|import\(|new URL\()\s*"(\.[^"]+|[\w-]+\.js)\"""", text):
            found += 1
            place = (Path("/js") / target).as_posix()
            parts: list[str] = []
            for part in place.split("/"):
                if part == "..":
                    parts.pop()
                elif part not in ("", "."):
                    parts.append(part)
            assert "/".join(parts) in files, f"{name}: {target}"
    assert found > 20


def test_package_data_names_all_of_it() -> None:
    import tomllib

    root = Path(STATIC).parents[3]
    patterns = tomllib.loads((root / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]["ratite"]
    package = root / "ratite"
    shipped = {path for pattern in patterns for path in package.glob(pattern)}
    assert {path for path in Path(STATIC).rglob("*") if path.is_file()} <= shipped
