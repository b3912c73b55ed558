"""`python -m ratite.bench [PART …]`: measure, print a table, and the samples as JSON where asked."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import TextIO

from ratite.clients.bench import access, control, coremark, kernels, mix, monitor, page, parallel, qmp, short, virt
from ratite.clients.bench.libvirtd import missing
from ratite.clients.bench.report import Row, as_json, host, table, together
from ratite.clients.bench.subjects import peer, qemu, ratite
from ratite.clients.boots.main import FOLDER
from ratite.clients.qmp import CommandError, QmpClientError

PARTS = (
    "monitor", "qmp", "control", "access", "mix", "kernels", "coremark", "scaling", "short", "beside", "harts", "web",
    "libvirt",
)  # fmt: skip


def _arguments(argv: Sequence[str] | None, program: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser(program, description="Measure ratite, beside QEMU where it is installed.")
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"what to measure: {', '.join(PARTS)} (default: all)")
    parser.add_argument("--boards", help="rv64, rv32, s3adsp1800, ml605 (default: rv64,s3adsp1800, for coremark ml605 too)")
    parser.add_argument("--source", type=Path, help="CoreMark's folder: its guests are built from it first")
    parser.add_argument("--folder", type=Path, default=FOLDER, help="Linux guests' files, for harts (make boots)")
    parser.add_argument("--runs", type=int, default=3, help="runs of the mix, each (default 3)")
    parser.add_argument("--starts", type=int, default=30, help="starts of each daemon (default 30)")
    parser.add_argument("--accel", default="", help="accelerator (default: the best usable)")
    parser.add_argument("--short", action="store_true", help="short guests, without goals: for trying")
    parser.add_argument("--long", action="store_true", help="kernels six and the mix twelve times as long")
    parser.add_argument("--no-peer", action="store_true", help="measure ratite alone")
    parser.add_argument("--json", metavar="PATH", nargs="?", const="-", help="write all samples there (alone: to stdout)")
    options = parser.parse_args(argv)
    if options.json in PARTS:  # --json PART: the word is a part
        options.parts, options.json = [options.json, *options.parts], "-"
    unknown = set(options.parts) - set(PARTS)
    if unknown:
        parser.error(f"PART must be {', '.join(PARTS)}, not {', '.join(sorted(unknown))}")
    options.parts = options.parts or list(PARTS)
    options.marked = options.boards.split(",") if options.boards else list(coremark.BOARDS)
    options.boards = (options.boards or "rv64,s3adsp1800").split(",")
    return options


def _say(text: str) -> None:
    if sys.stderr.isatty():
        print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)


def _measure(options: argparse.Namespace) -> list[Row]:
    def which(program: str) -> str | None:
        return None if options.no_peer else peer(program)

    guest = "mix-short" if options.short else "mix"
    mixed = "mix-long" if options.long else guest
    rows: list[Row] = []
    if "monitor" in options.parts:
        path = which("qemu-system-riscv64")
        rows += monitor.measure(ratite(), qemu(path) if path else None, options.starts, _say)
    if "qmp" in options.parts:
        rows += _qmp(options, which)
    if "control" in options.parts:
        path = which("qemu-system-riscv64")
        none = qemu(path) if path else None
        board = control.qemu_board(path, none) if path and none else None
        rows += control.measure(none, board, options.starts, _say)
    if "access" in options.parts:
        rows += access.measure(options.runs, options.accel, _say)
    if "mix" in options.parts:
        rows += mix.measure(options.boards, mixed, options.runs, options.accel, _say, which)
    if "kernels" in options.parts:
        group = "kernels-short" if options.short else "kernels-long" if options.long else "kernels"
        rows += kernels.measure(options.boards, group, options.runs, options.accel, _say, which)
    if "coremark" in options.parts:
        rows += _coremark(options, which)
    if "scaling" in options.parts:
        rows += mix.scaling(guest, options.runs, options.accel, _say)
    if "short" in options.parts:
        rows += short.measure(options.runs, options.accel, _say, which)
    if "beside" in options.parts:
        rows += parallel.beside(options.runs, options.accel, options.short, _say)
    if "web" in options.parts:
        rows += page.measure(options.runs if options.short else max(options.runs, 10), _say)
    if "libvirt" in options.parts:
        if reason := missing():
            print(f"bench: libvirt is left out: {reason}")
        else:
            rows += virt.measure(which(virt.PROGRAM), options.runs if options.short else max(options.runs, 10), _say)
    if "harts" in options.parts:
        rows += _harts(options, which)
    if {"mix", "kernels", "coremark"} <= set(options.parts):
        what = [row for row in rows if row.name.endswith((" on rv64", "coremark on rv64, cold"))]
        rows += together("mix, kernels and coremark on rv64, cold", what, None if options.short else (2.0, 1.0))
    return rows


def _qmp(options: argparse.Namespace, which: Callable[[str], str | None]) -> list[Row]:
    """Round trips; left out by name where there is no C compiler."""
    path = which("qemu-system-riscv64")
    try:
        return qmp.measure(qmp.stand_in(), qemu(path) if path else None, min(options.starts, 10), _say)
    except FileNotFoundError as error:
        print(f"bench: qmp is left out: {error}")
        return []


def _harts(options: argparse.Namespace, which: Callable[[str], str | None]) -> list[Row]:
    """Four harts' rows; left out by name where the guest's files are missing."""
    try:
        return parallel.harts(options.runs, options.short, _say, which, options.folder)
    except FileNotFoundError as error:
        print(f"bench: harts is left out: {error}")
        return []


def _coremark(options: argparse.Namespace, which: Callable[[str], str | None]) -> list[Row]:
    """CoreMark's rows; what there is no guest for is named."""
    if options.source:
        print(coremark.build(options.source, coremark.BUILT), end="")
    there = coremark.built(options.marked, coremark.BUILT)
    for board in options.marked:
        if board not in there:
            print(f"bench: coremark on {board} is left out: not built (make peers COREMARK=its folder, or --source)")
    return coremark.measure(there, options.runs, options.accel, options.short, _say, which, coremark.BUILT)


def main(argv: Sequence[str] | None = None, program: str = "python -m ratite.bench") -> int:
    """Command line; 1 when a measurement fails or a goal isn't met."""
    options = _arguments(argv, program)
    out = sys.stdout
    with redirect_stdout(sys.stderr if options.json == "-" else out):
        return _bench(options, out)


def _bench(options: argparse.Namespace, out: TextIO) -> int:
    programs = {program for board, program, _ in mix.QEMU_MACHINES if board in options.boards}
    for program in sorted(programs | {"qemu-system-riscv64"}):
        if not options.no_peer and peer(program) is None:
            print(f"bench: {program} is not installed, its numbers are left out (Debian: qemu-system-misc; make peers)")
    print(f"bench: {host()}", flush=True)
    try:
        rows = _measure(options)
    except (CommandError, QmpClientError, RuntimeError, OSError) as error:
        print(f"bench: FAILED: {error}", file=sys.stderr)
        return 1
    _say("")
    print(table(rows))
    if options.json == "-":
        print(as_json(rows), file=out)
    elif options.json:
        Path(options.json).write_text(as_json(rows) + "\n")
    return 1 if any(row.met is False for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
