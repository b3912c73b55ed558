"""`ratite schema-diff`: what QMP introspection here lacks or has otherwise than another program's, by structure."""

from __future__ import annotations

import json
import lzma
import os
import socket
import subprocess
from collections.abc import Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ratite.clients import schema_diff
from ratite.clients.cli import kit, places
from ratite.clients.qmp import Client
from ratite.clients.schema_reasons import by_reason

if TYPE_CHECKING:
    from collections.abc import Iterator

Entries = Sequence[dict[str, Any]]


def read_introspection(where: str) -> Entries:
    """What query-qmp-schema answers: saved in a file (.json, .json.xz), at a monitor's address, or of an emulator's program."""
    path = Path(where)
    if ":" in where and not path.exists():
        with places.find(None, where).connect() as client:
            return _ask(client)
    if not path.is_file():
        raise kit.Mistake(f"{where}: there is no such file, and an address is unix:PATH or tcp:HOST:PORT")
    if os.access(path, os.X_OK):
        with _monitor_of(path) as client:
            return _ask(client)
    data = path.read_bytes()
    try:
        read = json.loads(lzma.decompress(data) if path.suffix == ".xz" else data)
        entries: Entries = read["return"] if isinstance(read, dict) else read
        if not all("meta-type" in entry for entry in entries):
            raise KeyError
    except (ValueError, KeyError, TypeError, lzma.LZMAError):
        raise kit.Mistake(f"{where} must hold what query-qmp-schema answered, as JSON") from None
    return entries


def _ask(client: Client) -> Entries:
    entries: Entries = client.execute("query-qmp-schema")
    return entries


@contextmanager
def _monitor_of(program: Path) -> Iterator[Client]:
    """A monitor of an emulator that has QEMU's command line, started without a machine."""
    ours, theirs = socket.socketpair()
    with theirs:
        command = [str(program.resolve()), "-S", "-no-user-config", "-nodefaults", "-display", "none", "-machine", "none"]
        command += ["-chardev", f"socket,id=mon,fd={theirs.fileno()}", "-mon", "chardev=mon,mode=control"]
        process = subprocess.Popen(command, pass_fds=(theirs.fileno(),), stdin=subprocess.DEVNULL)
    try:
        ours.settimeout(30)
        with Client(ours) as client:
            yield client
    finally:
        process.kill()
        process.wait()


@click.command("schema-diff", short_help="Compare QMP introspection with another program's, such as QEMU's.")
@click.argument("theirs", required=False)
@click.option("--target", "targets", metavar="T", multiple=True, help="What a program for this target alone shows.")
@click.option("--ours", metavar="WHERE", help="Compare this, not what ratite ships; as THEIRS.")
@kit.json_option
def command(theirs: str | None, targets: Sequence[str], ours: str | None, as_json: bool) -> int:
    """Print what of THEIRS is missing here, what is here and not there, and what is different.

    \b
    ratite schema-diff                                       with QEMU 10.0 (saved), all targets
    ratite schema-diff --target riscv64 qemu-schema.json     with a saved answer of query-qmp-schema (.json, .json.xz)
    ratite schema-diff --target riscv64 /usr/bin/qemu-system-riscv64
    ratite schema-diff --ours unix:/tmp/r.sock unix:/tmp/q.sock

    Types are compared by structure: their names are masked.

    Exit status: 0 if nothing here is extra or different, 1 if something is.
    """
    known = schema_diff.facts()
    if theirs is not None and ours is None and len(targets) != 1:
        raise kit.Mistake(f"say which target that is, --target {' or '.join(known)}, or give --ours")
    if ours is not None and (theirs is None or targets):
        raise kit.Mistake("--ours needs THEIRS, and no --target")
    for target in targets:
        if theirs is None and target not in known:
            raise kit.Mistake(f"nothing is saved of QEMU for {target!r}, only {', '.join(known)}")
    pairs: dict[str, tuple[Entries, Entries]] = {}
    if ours is not None and theirs is not None:
        pairs[""] = (read_introspection(ours), read_introspection(theirs))
    else:
        for target in targets or known:
            other = known[target] if theirs is None else read_introspection(theirs)
            pairs[target] = (schema_diff.shipped(target), other)
    found = {name: schema_diff.compare(*pair) for name, pair in pairs.items()}
    if as_json:
        kit.show_json({name: [row._asdict() for row in rows] for name, rows in found.items()})
    else:
        for name, rows in found.items():
            _show(name, rows)
    return kit.FAILED if any(row.kind != schema_diff.MISSING for rows in found.values() for row in rows) else kit.OK


def _show(name: str, rows: Sequence[schema_diff.Finding]) -> None:
    counts = {kind: [row for row in rows if row.kind == kind] for kind in schema_diff.KINDS}
    summary = ", ".join(f"{len(found)} {kind}" for kind, found in counts.items())
    click.echo(f"{name}: {summary}" if name else summary)
    for kind in schema_diff.EXTRA, schema_diff.DIFFERENT:
        for row in counts[kind]:
            click.echo(f"  {kind}: {row}")
    for why, group in by_reason(counts[schema_diff.MISSING]).items():
        click.echo(f"  missing: {why or 'no reason is known'}")
        for row in group:
            click.echo(f"    {row}")
