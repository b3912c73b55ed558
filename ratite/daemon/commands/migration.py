"""Migration: what it can be asked to do."""

from __future__ import annotations

from typing import Any

from ratite.daemon.dispatch import Context, command
from ratite.qapi.errors import GenericError


@command("query-migrate-capabilities")
def query_migrate_capabilities(ctx: Context, arguments: dict[str, Any]) -> object:
    """None: machines can't be migrated yet."""
    return []


@command("migrate-set-capabilities")
def migrate_set_capabilities(ctx: Context, arguments: dict[str, Any]) -> None:
    """Nothing is to be changed: what may be asked for is so while there is no migration."""
    for row in arguments["capabilities"]:
        if row["state"] and row["capability"] != "events":
            raise GenericError(f"Capability '{row['capability']}' can't be turned on: machines can't be migrated yet")
