"""Trusted platform modules: there are none."""

from __future__ import annotations

from typing import Any

from ratite.daemon.dispatch import Context, command


@command("query-tpm-models", "query-tpm-types")
def query_tpm_models(ctx: Context, arguments: dict[str, Any]) -> object:
    """The models and types that can be had."""
    return []
