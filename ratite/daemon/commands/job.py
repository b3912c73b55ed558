"""Jobs."""

from __future__ import annotations

from functools import partial
from typing import Any

from ratite.daemon.dispatch import OWNER, Context, command, refuse_nul
from ratite.qapi.errors import GenericError


@command("query-jobs", side=OWNER, alone=True)
def query_jobs(ctx: Context, arguments: dict[str, Any]) -> object:
    """All of them."""
    return ctx.machine.jobs.list() if ctx.daemon.has_machine else []


@command("query-block-jobs", side=OWNER, alone=True)
def query_block_jobs(ctx: Context, arguments: dict[str, Any]) -> object:
    """Those that work on nodes in use."""
    return ctx.machine.jobs.block_list() if ctx.daemon.has_machine else []


@command("job-cancel", side=OWNER)
def job_cancel(ctx: Context, arguments: dict[str, Any]) -> None:
    """Give one up."""
    ctx.machine.jobs.cancel(arguments["id"])


@command("job-pause", side=OWNER)
def job_pause(ctx: Context, arguments: dict[str, Any]) -> None:
    """Have one stand still."""
    ctx.machine.jobs.pause(arguments["id"])


@command("job-resume", side=OWNER)
def job_resume(ctx: Context, arguments: dict[str, Any]) -> None:
    """Have one go on."""
    ctx.machine.jobs.resume(arguments["id"])


@command("job-complete", side=OWNER)
def job_complete(ctx: Context, arguments: dict[str, Any]) -> None:
    """Have one end well."""
    ctx.machine.jobs.complete(arguments["id"])


@command("job-dismiss", side=OWNER)
def job_dismiss(ctx: Context, arguments: dict[str, Any]) -> None:
    """Forget one."""
    ctx.machine.jobs.dismiss(arguments["id"])


@command("job-finalize", side=OWNER)
def job_finalize(ctx: Context, arguments: dict[str, Any]) -> None:
    """Have one take effect."""
    ctx.machine.jobs.finalize(arguments["id"])


@command("blockdev-create", side=OWNER)
def blockdev_create(ctx: Context, arguments: dict[str, Any]) -> None:
    """Make an image."""
    from ratite.core.backends.block.create import create
    from ratite.core.jobs import ThreadJob

    options = arguments["options"]
    refuse_nul(options)
    if options["driver"] != "file":
        raise GenericError("Driver does not support blockdev-create")
    ctx.machine.jobs.start(ThreadJob(arguments["job-id"], "create", partial(create, options, ctx.machine.files)))
