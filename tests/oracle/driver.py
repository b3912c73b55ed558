"""What the soaks have in common: their options, their ledger, one chunk after another."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from typing import Protocol

from tests.oracle.ledger import Chunk, Ledger, soak


class Closing(Protocol):
    def close(self) -> None: ...


class Job:
    """``run(seed, instructions)`` does one chunk; ``oracle`` and ``config`` name it in the ledger."""

    def __init__(self, oracle: str, config: str, run: Callable[[int, int], Chunk], owner: Closing) -> None:
        self.oracle = oracle
        self.config = config
        self.run = run
        self.owner = owner


def plainly(parser: argparse.ArgumentParser) -> None:
    """The option of those that evaluate."""
    parser.add_argument("--plain", action="store_true", help="the evaluator itself instead of what is written down from it")


def command(
    doc: str | None, make: Callable[[argparse.Namespace], Job | str], *, count: int, chunk: int, xlen: bool = False,
    endian: bool = False, tier: bool = False, more: Callable[[argparse.ArgumentParser], object] | None = None,
    argv: Sequence[str] | None = None,
) -> int:
    """The command line of a soak: its exit status. ``make`` gives a text where the judge is missing (status 77).
    ``xlen``, ``endian``, ``tier``: options that it has; ``more`` adds others."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=lambda text: int(float(text)), default=count, help="instructions to compare")
    parser.add_argument("--seed", type=int, default=1, help="of the first chunk")
    parser.add_argument("--chunk", type=int, default=chunk, help="instructions a seed")
    parser.add_argument("--ledger", help="a file of JSON lines; chunks that it has are left out")
    if xlen:
        parser.add_argument("--xlen", type=int, choices=(32, 64), default=64)
    if endian:
        parser.add_argument("--endian", choices=("be", "le"), default="be")
    if tier:
        parser.add_argument("--tier", type=int, choices=(0, 1, 2), default=0, help="1, 2: in compiled regions")
    if more:
        more(parser)
    args = parser.parse_args(argv)
    job = make(args)
    if isinstance(job, str):
        print(job)
        return 77
    try:
        return 1 if soak(Ledger(args.ledger, job.oracle, job.config), args.seed, args.count, job.run, args.chunk) else 0
    finally:
        job.owner.close()
