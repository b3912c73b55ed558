"""The documentation: links lead somewhere, blocks are right, and what a page marks as run is run.

    <!-- run -->       the sh or python block that follows is executed in the page's folder, in order; where a block
    <!-- output -->    marked so comes next, its lines are in what that printed, in order
    # file: NAME       the first line of a yaml block: it is compiled, and lies in the page's folder while that is run
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
import yaml

from ratite.clients import reference
from ratite.clients.bench.libvirtd import Libvirtd, missing
from ratite.daemon.views import Views, load_schema, members_of
from ratite.qapi.machinefile import Compiler, files
from ratite.qapi.tables import Tables

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])
_BLOCK = re.compile(r"^(?:<!-- (?P<mark>run|output) -->\n)?```(?P<kind>[\w-]*)\n(?P<text>.*?)^```$", re.M | re.S)
_LINK = re.compile(r"\]\((?!https?:)([^)#\s]*)(#[^)\s]+)?\)")
_HEADING = re.compile(r"^#+ (.*)$", re.M)
_PATH = re.compile(r"`((?:docs|tests|ratite)/[\w./-]+\.(?:md|py|json|c|yaml))`")


class Block(NamedTuple):
    mark: str
    kind: str
    text: str


def blocks(page: Path) -> list[Block]:
    """A page's fenced blocks."""
    return [Block(each["mark"] or "", each["kind"], each["text"]) for each in _BLOCK.finditer(page.read_text())]


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def anchors(text: str) -> set[str]:
    """Those of a page's headings, with numbers where one comes twice."""
    seen: dict[str, int] = {}
    found = set()
    for heading in _HEADING.findall(_BLOCK.sub("", text)):
        plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading)
        made = reference.anchor(plain)
        count = seen[made] = seen.get(made, -1) + 1
        found.add(f"#{made}-{count}" if count else f"#{made}")
    return found


def broken(page: Path, text: str, others: dict[Path, str]) -> Iterator[str]:
    """Links of a page that lead nowhere; `others` are texts of pages that are not on disk."""
    for target, place in _LINK.findall(_BLOCK.sub("", text)):
        path = (page.parent / target).resolve() if target else page
        known = others.get(path) or (path.read_text() if path.suffix == ".md" and path.exists() else None)
        if known is None and not path.exists():
            yield f"{name_of(page)}: {target} does not exist"
        elif place and (known is None or place not in anchors(known)):
            yield f"{name_of(page)}: {target}{place} is no heading"


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_and_named_files_exist(page: Path) -> None:
    text = page.read_text()
    assert list(broken(page, text, {})) == []
    missing = [path for path in _PATH.findall(text) if not (ROOT / path).exists()]
    assert missing == []


def test_a_broken_link_is_found() -> None:
    page = ROOT / "docs" / "index.md"
    assert list(broken(page, "[a](nowhere.md) [b](qmp.md#nothing) [c](qmp.md#views) [d](#x)", {})) == [
        f"docs/index.md: {what}" for what in ("nowhere.md does not exist", "qmp.md#nothing is no heading", "#x is no heading")
    ]


def test_every_page_is_in_the_index() -> None:
    linked = {target for target, _ in _LINK.findall((ROOT / "docs" / "index.md").read_text())}
    assert {page.name for page in (ROOT / "docs").glob("*.md")} - {"index.md"} == linked


# -- what blocks say


@pytest.fixture(scope="session")
def compiler() -> Compiler:
    return Compiler(files.declarations())


@pytest.fixture(scope="session")
def tables() -> Tables:
    """Of ratite's view without a target; device_add and object-add know the registry's types."""
    rows = files.declarations().types.items()

    def list_types(kinds: tuple[str, ...]) -> dict[str, object]:
        return {name: members_of(row["properties"]) for name, row in rows if row["kind"] in kinds and not row["abstract"]}

    view = Views(load_schema(), list_types).get()
    return view.extension(view.commands["object-add"])()


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_blocks_are_right(page: Path, compiler: Compiler, tables: Tables) -> None:
    for block in blocks(page):
        if block.kind == "python":
            compile(block.text, str(page), "exec")
        elif block.kind == "json":
            for message in _values(block.text):
                if isinstance(message, dict) and "execute" in message:
                    tables.commands[message["execute"]].check(message.get("arguments", {}))
        elif block.kind == "yaml":
            yaml.safe_load(block.text)
            if block.text.startswith("# file:") and page.name != "machine-files.md":  # tests/machinefile has that
                assert compiler.compile_text(block.text, {}, files.read, "block").commands
        elif block.kind in ("sh", "bash"):
            subprocess.run(["bash", "-n"], input=block.text, text=True, check=True)


def _values(text: str) -> Iterator[object]:
    """JSON values, one behind the other."""
    decoder, at = json.JSONDecoder(), 0
    while text[at:].strip():
        at += len(text[at:]) - len(text[at:].lstrip())
        value, at = decoder.raw_decode(text, at)
        yield value


# -- what is run

RUN = [page for page in PAGES if any(block.mark == "run" for block in blocks(page))]


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder like the tutorial's, with `ratite` in PATH by the folder bin."""
    folder = Path(tempfile.mkdtemp(prefix="ratite-docs-"))
    for elf in (ROOT / "tests" / "guests" / "elf").glob("*.elf"):
        (folder / elf.name).symlink_to(elf)
    (folder / "bin").mkdir()
    script = folder / "bin" / "ratite"
    script.write_text(f'#!/bin/sh\nexec {sys.executable} -m ratite.clients.cli "$@"\n')
    script.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def libvirt(place: Path, request: pytest.FixtureRequest, cache_home: Path) -> Iterator[dict[str, str]]:
    """For a page that calls virsh: the address of a libvirtd of its own."""
    if not any(block.mark == "run" and "virsh " in block.text for block in blocks(request.getfixturevalue("page"))):
        yield {}
    elif reason := missing():
        pytest.skip(reason)
    else:
        with Libvirtd(place / "libvirt", code=cache_home / "ratite") as libvirtd:
            libvirtd.warm("rv64-riscv-cpu", "microblaze-cpu")
            yield {"LIBVIRT_DEFAULT_URI": libvirtd.uri}


@pytest.mark.parametrize("page", RUN, ids=name_of)
def test_what_is_marked_runs(page: Path, place: Path, libvirt: dict[str, str]) -> None:
    environment = {
        **os.environ, "PATH": f"{place / 'bin'}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT), "XDG_RUNTIME_DIR": str(place),
        **libvirt,
    }  # fmt: skip
    try:
        printed = ""
        for block in blocks(page):
            if block.kind == "yaml" and (match := re.match(r"# file: (\S+)\n", block.text)):
                (place / match[1]).write_text(block.text)
            elif block.mark == "run":
                words = [sys.executable, "-c"] if block.kind == "python" else ["bash", "-euo", "pipefail", "-c"]
                words.append(block.text)
                done = subprocess.run(words, cwd=place, env=environment, capture_output=True, text=True, timeout=300)
                assert done.returncode == 0, f"{block.text}\n{done.stdout}\n{done.stderr}"
                printed = done.stdout
            elif block.mark == "output":
                at = 0
                for line in block.text.splitlines():
                    at = printed.find(line, at) + len(line)
                    assert at >= len(line), f"{line!r} isn't in {printed!r}"
    finally:
        subprocess.run([place / "bin" / "ratite", "stop", "--all", "--force"], env=environment, capture_output=True)


def test_the_tutorial_is_run() -> None:
    assert {page.name for page in RUN} >= {"tutorial.md", "scripting.md", "howto-ci.md"}
    assert sum(block.mark == "run" for block in blocks(ROOT / "docs" / "tutorial.md")) >= 5


# -- the reference


@pytest.fixture(scope="session")
def pages() -> dict[Path, str]:
    """The generated pages, by the path that they will have."""
    return {ROOT / "docs" / "reference" / name: "\n".join(lines) for name, lines in reference.pages()}


def test_the_reference_is_whole_and_its_links_lead_somewhere(pages: dict[Path, str], tables: Tables) -> None:
    by_name = {path.name: text for path, text in pages.items()}
    headings = {name: set(_HEADING.findall(_BLOCK.sub("", text))) for name, text in by_name.items()}
    assert headings["qmp-commands.md"] >= set(tables.commands)
    assert headings["qmp-events.md"] >= set(tables.events)
    assert headings["control-plane.md"] >= {"instance-create", "InstanceInfo"}
    types = files.declarations().types
    for page, kinds in ("devices.md", {"device"}), ("cpus.md", {"cpu"}), ("objects.md", {"", "object"}):
        assert headings[page] >= {name for name, row in types.items() if row["kind"] in kinds and not row["abstract"]}
    assert "| `baudbase` | `uint32` | config | `115200` |" in by_name["devices.md"]
    assert "ratite sweep" in headings["cli.md"] and "--lifeline FD" in by_name["ratited.md"]
    assert [text for path, page in pages.items() for text in broken(path, page, pages)] == []


def test_the_site(pages: dict[Path, str], tmp_path: Path) -> None:
    """As `make docs` builds it, warnings being errors."""
    pytest.importorskip("furo", reason="furo is missing (ratite[docs])")
    pytest.importorskip("myst_parser", reason="myst-parser is missing (ratite[docs])")
    source = tmp_path / "source"
    shutil.copytree(ROOT / "docs", source)
    (source / "reference").mkdir()
    for path, text in pages.items():
        (source / "reference" / path.name).write_text(text)
    words = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "-b", "html", str(source), str(tmp_path / "out")]
    done = subprocess.run(words, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert (done.returncode, done.stderr) == (0, "")
    assert "query-status" in (tmp_path / "out" / "reference" / "qmp-commands.html").read_text()


def test_prose() -> None:
    assert reference.prose("a *b*\n<c> [d] | \\e") == textwrap.dedent(r"a \*b\* \<c> \[d] \| \\e")
