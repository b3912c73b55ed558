"""Migration: what it can be asked to do."""

from __future__ import annotations

from typing import Any

from ratite.daemon.dispatch import Context, command


@command("query-migrate-capabilities")
def query_migrate_capabilities(ctx: Context, arguments: dict[str, Any]) -> object:
    """None: machines can't be migrated yet."""
    return []
