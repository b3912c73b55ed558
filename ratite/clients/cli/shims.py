"""`ratite install-shims`: programs called `qemu-system-TARGET`, one for each target there is."""

from __future__ import annotations

import subprocess
import sys

import click

from ratite.clients.cli import kit


@click.command("install-shims")
@click.argument("folder", type=click.Path(file_okay=False))
@click.option("--force", is_flag=True, help="Replace programs of these names that are something else.")
@kit.json_option
def command(folder: str, force: bool, as_json: bool) -> int:
    """Write qemu-system-TARGET into FOLDER for every target: programs that stand in for QEMU's.

    They start this Python and this ratite, whatever HOME, PATH and PYTHONPATH are. Run it again after an upgrade:
    management tools ask a program anew only when its file has changed.
    """
    options = [*(["--force"] if force else []), *(["--json"] if as_json else [])]
    return subprocess.call([sys.executable, "-m", "ratite.daemon.personality.install", *options, "--", folder])
