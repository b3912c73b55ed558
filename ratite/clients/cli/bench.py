"""`ratite bench`: the measurements of ratite.clients.bench, which reads its own command line."""

from __future__ import annotations

import click


@click.command(
    "bench",
    short_help="Measure ratite, beside QEMU where it is installed.",
    context_settings={"ignore_unknown_options": True, "help_option_names": []},
    add_help_option=False,
)
@click.argument("words", nargs=-1, type=click.UNPROCESSED)
def command(words: tuple[str, ...]) -> int:
    """Measure; see `ratite bench --help`."""
    from ratite.clients.bench.main import main

    return main(list(words), program="ratite bench")
