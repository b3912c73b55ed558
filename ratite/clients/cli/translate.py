"""`ratite translate`: the machine file of a QEMU command line."""

from __future__ import annotations

import shlex
import subprocess
import sys

import click

from ratite.clients.cli import kit


@click.command("translate", context_settings={"ignore_unknown_options": True, "help_option_names": ["--help"]})
@click.argument("words", nargs=-1, required=True, type=click.UNPROCESSED, metavar="COMMAND")
@kit.json_option
def command(words: tuple[str, ...], as_json: bool) -> int:
    """Print the machine file of COMMAND, a command line of QEMU's as one text or word by word.

    Its first word says the target: `ratite translate 'qemu-system-riscv64 -M virt -smp 4 …'`. Files needn't exist. What is no
    part of a machine stands in comments at the end.
    """
    line = shlex.split(words[0]) if len(words) == 1 else list(words)
    done = subprocess.run(
        [sys.executable, "-m", "ratite.daemon.personality.as_file", *line], stdout=subprocess.PIPE, text=True, check=False
    )
    if as_json and not done.returncode:
        from ratite.qapi.machinefile.document import read_document
        from ratite.qapi.machinefile.problems import Problems

        document = read_document("", done.stdout, Problems())
        kit.show_json(None if document is None else document.data)
    else:
        click.echo(done.stdout, nl=False)
    return done.returncode
