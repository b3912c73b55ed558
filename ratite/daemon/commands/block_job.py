"""Jobs that copy block nodes in use, and transactions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ratite.daemon.dispatch import OWNER, Context, command
from ratite.qapi.errors import DeviceNotActive, GenericError

if TYPE_CHECKING:
    from ratite.core.backends.block.copy import CopyJob
    from ratite.core.jobs import Jobs


@command("blockdev-mirror", side=OWNER)
def blockdev_mirror(ctx: Context, arguments: dict[str, Any]) -> None:
    """Copy a node and keep the copy up to date."""
    from ratite.core.backends.block.copy import Mirror

    ctx.machine.jobs.start(Mirror(ctx.machine.blocks, arguments))


@command("blockdev-backup", side=OWNER)
def blockdev_backup(ctx: Context, arguments: dict[str, Any]) -> None:
    """Copy a node as it is now."""
    ctx.machine.jobs.start(_backup(ctx, arguments))


def _backup(ctx: Context, arguments: dict[str, Any]) -> CopyJob:
    from ratite.core.backends.block.copy import Backup

    return Backup(ctx.machine.blocks, arguments)


@command("transaction", side=OWNER)
def transaction(ctx: Context, arguments: dict[str, Any]) -> None:
    """Several backups of one instant."""
    jobs = []
    for action in arguments["actions"]:
        if action["type"] == "abort":
            raise GenericError("Transaction aborted using Abort action")
        jobs.append(_backup(ctx, action["data"]))
    ctx.machine.jobs.start(*jobs, grouped=arguments.get("properties", {}).get("completion-mode") == "grouped")


def _jobs(ctx: Context, id: str) -> Jobs:
    """The jobs, if that one is of a node in use; DeviceNotActive."""
    if ctx.daemon.has_machine:
        jobs: Jobs = ctx.machine.jobs
        if any(row["device"] == id for row in jobs.block_list()):
            return jobs
    raise DeviceNotActive(f"Block job '{id}' not found")


@command("block-job-cancel", side=OWNER, alone=True)
def block_job_cancel(ctx: Context, arguments: dict[str, Any]) -> None:
    """Give one up."""
    _jobs(ctx, arguments["device"]).cancel(arguments["device"], arguments.get("force", False))


@command("block-job-pause", side=OWNER, alone=True)
def block_job_pause(ctx: Context, arguments: dict[str, Any]) -> None:
    """Have one stand still."""
    _jobs(ctx, arguments["device"]).pause(arguments["device"])


@command("block-job-resume", side=OWNER, alone=True)
def block_job_resume(ctx: Context, arguments: dict[str, Any]) -> None:
    """Have one go on."""
    _jobs(ctx, arguments["device"]).resume(arguments["device"])


@command("block-job-set-speed", side=OWNER, alone=True)
def block_job_set_speed(ctx: Context, arguments: dict[str, Any]) -> None:
    """Limit one."""
    _jobs(ctx, arguments["device"]).set_speed(arguments["device"], arguments["speed"])


@command("block-job-complete", side=OWNER, alone=True)
def block_job_complete(ctx: Context, arguments: dict[str, Any]) -> None:
    """Have one end well."""
    _jobs(ctx, arguments["device"]).complete(arguments["device"])


@command("block-job-finalize", side=OWNER, alone=True)
def block_job_finalize(ctx: Context, arguments: dict[str, Any]) -> None:
    """Have one take effect."""
    _jobs(ctx, arguments["id"]).finalize(arguments["id"])


@command("block-job-dismiss", side=OWNER, alone=True)
def block_job_dismiss(ctx: Context, arguments: dict[str, Any]) -> None:
    """Forget one."""
    _jobs(ctx, arguments["id"]).dismiss(arguments["id"])
