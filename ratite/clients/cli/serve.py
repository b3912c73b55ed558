"""`ratite serve`: the control plane in the foreground, which is `ratited --control`."""

from __future__ import annotations

import os
import sys

import click


@click.command(
    "serve",
    short_help="Run the control plane (JSON-RPC, many machines).",
    context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False},
)
@click.argument("options", nargs=-1, type=click.UNPROCESSED, metavar="[ADDR] [OPTION]...")
def command(options: tuple[str, ...]) -> int:
    """Run the control plane at ADDR (default: $XDG_RUNTIME_DIR/ratite/control.sock) until Ctrl-C.

    ADDR is unix:PATH, tcp:HOST:PORT, fd:N or systemd; the OPTIONs are those of ratited for --control (ratited --help):
    --token-file, --allow-dir, --permit, --limit and others. `ratite ps`, `stop`, `qmp`, `console`, `dump` and `top` then know
    its machines; set RATITE_CONTROL for an address that isn't the default, RATITE_TOKEN_FILE for its token.
    """
    words = list(options)
    address = words.pop(0) if words and not words[0].startswith("-") else "default"
    sys.stdout.flush()
    os.execv(sys.executable, [sys.executable, "-m", "ratite.daemon", "--control", address, *words])
