"""Sphinx: what `make docs` builds, from a copy of this folder that has the generated reference in it."""

from __future__ import annotations

import re
from pathlib import Path

import ratite

project = "ratite"
author = "the ratite contributors"
copyright = author
release = ratite.__version__

extensions = ["myst_parser"]
source_suffix = {".md": "markdown"}
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = f"ratite {release}"
myst_heading_anchors = 3
# Lexers that nobody has: such blocks are shown as they are.
suppress_warnings = ["misc.highlighting_failure"]

REFERENCE = (
    "qmp-commands", "qmp-events", "qmp-types", "cpus", "devices", "objects", "machine-files", "control-plane", "qemu-schema",
    "cli", "ratited",
)  # fmt: skip


def with_contents(app, docname, source):
    """The index's links, section by section, are the site's table of contents; GitHub shows them as they are."""
    if docname != "index":
        return
    out = []
    for part in re.split(r"(?m)^(?=## )", source[0]):
        heading = re.match(r"## (.*)", part)
        names = re.findall(r"\]\(([\w-]+)\.md\)", part)
        if heading and heading[1] == "Reference":
            names = [f"reference/{name}" for name in REFERENCE]
            links = "\n".join(f"- [](reference/{name}.md)" for name in REFERENCE)
            part = f"## Reference\n\n{links}\n\n"
        out.append(part)
        if names:
            caption = heading[1] if heading else "Start"
            out.append("\n".join(["```{toctree}", ":hidden:", f":caption: {caption}", *names, "```", "", ""]))
    source[0] = "\n".join(out)


def setup(app):
    """Called by Sphinx."""
    app.connect("source-read", with_contents)
    assert Path(app.srcdir, "reference").is_dir(), "make docs writes the reference beside the pages first"
