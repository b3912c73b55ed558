"""The digests of the guests' sources and ELFs, written by the build that made them.

    python tests/guests/manifest.py write BUILT      take the ELFs of a build over and write MANIFEST.json
    python tests/guests/manifest.py compare BUILT    fail if a build differs from what is checked in
    python tests/guests/manifest.py check            fail if sources or ELFs differ from MANIFEST.json

`compare` is what `make guests` runs, `check` needs no compiler and is a test.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
MANIFEST = HERE / "MANIFEST.json"


def digest(path: Path) -> str:
    """SHA-256 of a file, in hex."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def sources() -> list[Path]:
    """Every file that an ELF depends on."""
    return sorted([HERE / "Makefile", *HERE.glob("linux/*"), *HERE.glob("runtime/*"), *HERE.glob("src/*")])


def toolchain() -> list[str]:
    """Version lines of the compilers and linkers, as `make versions` prints them."""
    run = subprocess.run(["make", "-s", "-C", str(HERE), "versions"], capture_output=True, text=True, check=True)
    return [line for line in run.stdout.splitlines() if line and not line.startswith("make")]


def tables(elf: Path) -> dict[str, dict[str, str]]:
    """The two digest tables: sources and the ELFs of folder `elf`."""
    return {
        "sources": {str(path.relative_to(HERE)): digest(path) for path in sources()},
        "elfs": {path.name: digest(path) for path in sorted(elf.glob("*.elf"))},
    }


def differences(want: dict[str, str], have: dict[str, str]) -> list[str]:
    """A line for each name that is missing, extra or different."""
    lines = []
    for name in sorted(want.keys() | have.keys()):
        if name not in have:
            lines.append(f"{name}: missing")
        elif name not in want:
            lines.append(f"{name}: not in the manifest")
        elif want[name] != have[name]:
            lines.append(f"{name}: differs")
    return lines


def check() -> list[str]:
    """What differs between the working tree and the manifest."""
    stored = json.loads(MANIFEST.read_text())
    now = tables(HERE / "elf")
    return differences(stored["sources"], now["sources"]) + differences(stored["elfs"], now["elfs"])


def compare(built: Path) -> list[str]:
    """What differs between a build in folder `built` and the manifest; the toolchain's version comes first."""
    stored = json.loads(MANIFEST.read_text())
    tools = toolchain()
    lines = [] if tools == stored["toolchain"] else [f"toolchain: {tools}, pinned {stored['toolchain']}"]
    return lines + differences(stored["elfs"], tables(built)["elfs"])


def write(built: Path) -> None:
    """Take the ELFs of `built` over and write the manifest."""
    target = HERE / "elf"
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir()
    for path in sorted(built.glob("*.elf")):
        shutil.copyfile(path, target / path.name)
    MANIFEST.write_text(json.dumps({"toolchain": toolchain(), **tables(target)}, indent=1) + "\n")


def main(argv: list[str]) -> int:
    """Command line; 0 when nothing differs."""
    match argv:
        case ["write", built]:
            write(Path(built))
            return 0
        case ["compare", built]:
            lines = compare(Path(built))
        case ["check"]:
            lines = check()
        case _:
            print(__doc__)
            return 2
    for line in lines:
        print(f"guests: {line}")
    if not lines:
        print("guests: as in the manifest")
    return 1 if lines else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
