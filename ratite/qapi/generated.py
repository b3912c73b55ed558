"""Files that are made from others and checked in: written, or with `--check` compared."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path


def keep(products: Mapping[Path, bytes], arguments: Sequence[str], command: str) -> int:
    """The exit status: 1 if `--check` is among the arguments and a file differs, which is named with what makes it."""
    status = 0
    for path, made in products.items():
        if path.exists() and path.read_bytes() == made:
            continue
        if "--check" in arguments:
            print(f"{path} is stale: run {command}", file=sys.stderr)
            status = 1
        else:
            path.write_bytes(made)
    return status
