"""`python -m ratite.daemon.personality.install [--force] [--json] -- FOLDER`: what `ratite install-shims` does."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from importlib import metadata, util

from ratite import __version__
from ratite.core.objects.registry import TypeRegistry
from ratite.daemon.personality.shims import PREFIX, text_of

_GROUPS = ("ratite.objects", "ratite.devices", "ratite.targets", "ratite.accelerators", "ratite.machines")
_NEEDED = ("aiohttp", "jsonschema", "elftools", "llvmlite", "structlog", "yaml")


def main(argv: Sequence[str]) -> int:
    """Write the shims and print their paths; the exit status."""
    options, folder = argv[:-2], argv[-1]
    os.makedirs(folder, exist_ok=True)
    targets = [name for name, row in TypeRegistry().targets().items() if not row.get("reason")]
    files = {name: os.path.join(folder, PREFIX + name) for name in targets}
    foreign = [file for file in files.values() if not _ours(file)]
    if foreign and "--force" not in options:
        print(f"ratite: {foreign[0]} is another program's; --force replaces it", file=sys.stderr)
        return 1
    path, behind = missing_path(), site_path()
    for name, file in files.items():
        _write(file, text_of(name, folder, __version__, path, behind))
    _make_image(folder, path, behind)
    if "--json" in options:
        print(json.dumps(list(files.values())))
    else:
        print(*files.values(), sep="\n")
    return 0


def _ours(file: str) -> bool:
    """Whether it may be replaced: a shim, or nothing."""
    if not os.path.lexists(file):
        return True
    with open(file, "rb") as opened:
        return b"ratite.daemon.personality" in opened.read(4096)


def _write(file: str, text: str) -> None:
    """As a whole or not at all, so that whoever starts it meanwhile gets one of both."""
    folder, name = os.path.split(file)
    new = os.path.join(folder, f".{name}.new")
    with open(new, "w", encoding="utf-8") as opened:
        opened.write(text)
    os.chmod(new, 0o755)
    os.replace(new, file)


def _make_image(folder: str, path: list[str], behind: list[str]) -> None:
    """The modules of a start in one file; a shim does without it."""
    from ratite.daemon.personality import image

    whole = os.pathsep.join([*path, *_looked_into("-IS"), *behind])
    subprocess.run(
        [sys.executable, "-IS", image.__file__, os.path.join(folder, image.NAME), whole], stdout=subprocess.DEVNULL, check=False
    )


def missing_path() -> list[str]:
    """The folders with ratite, what it needs and its plug-ins that an isolated interpreter doesn't look into."""
    known = {os.path.realpath(folder) for folder in _looked_into("-I")}
    found = [os.path.join(os.path.dirname(__file__), os.pardir, os.pardir, os.pardir)]
    for name in _NEEDED:
        spec = util.find_spec(name)
        if spec is not None and spec.origin:
            found.append(os.path.dirname(os.path.dirname(spec.origin)))
    for group in _GROUPS:
        found += [str(point.dist.locate_file("")) for point in metadata.entry_points(group=group) if point.dist is not None]
    folders = dict.fromkeys(os.path.realpath(folder) for folder in found)
    return [folder for folder in folders if folder not in known]


def site_path() -> list[str]:
    """The folders that `site` adds to an isolated interpreter's."""
    bare = _looked_into("-IS")
    return [folder for folder in _looked_into("-I") if folder not in bare]


def _looked_into(flag: str) -> list[str]:
    command = [sys.executable, flag, "-c", "import sys; print(*sys.path, sep='\\n')"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
