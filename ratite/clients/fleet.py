"""Many runs of machines: one run is a job, a pool takes jobs and gives a row for each as it ends.

    job ── run_job ──> row          every machine has a daemon, a process, of its own
    jobs ── run_local (threads of this process) or run_dask (workers of a cluster) ──> rows, in the order of their ends

A row is a dict that JSON can hold; docs/sweep.md has its members.
"""

from __future__ import annotations

import os
import shlex
import socket
import threading
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import click

from ratite.clients.cli import kit
from ratite.clients.cli.machinefile import compiled
from ratite.clients.cli.run import STATUSES, Run, Watch, explain
from ratite.clients.cli.start import Local, Plan, console_of
from ratite.clients.qmp import CommandError, QmpClientError
from ratite.clients.script import instructions_of

Row = dict[str, Any]

TAIL = 4 << 10
INTERRUPTED = "interrupted"


@dataclass(frozen=True)
class Job:
    """A run: the machine of `source` with `settings`, seen from `folder`. `seed` stands in `settings` too, if there is one."""

    number: int
    source: str
    settings: dict[str, str]
    seed: int | None = None
    expect: tuple[str, ...] = ()
    fail: tuple[str, ...] = ()
    timeout: float | None = None
    chardev: str | None = None
    folder: str = ""

    def again(self) -> str:
        """The shell's command that does this run once more."""
        words = ["ratite", "run", self.source]
        for name, value in self.settings.items():
            words += ["--set", f"{name}={value}"]
        for option, texts in ("--expect-text", self.expect), ("--fail-text", self.fail):
            for text in texts:
                words += [option, text]
        if self.timeout is not None:
            words += ["--timeout", f"{self.timeout:g}"]
        if self.chardev is not None:
            words += ["--chardev", self.chardev]
        return f"cd {shlex.quote(self.folder or os.getcwd())} && {shlex.join(words)}"


class _Counted(Run):
    """A run that counts the instructions when its guest has ended, before its daemon does; and that can be broken off."""

    stop: threading.Event | None = None
    instructions: int | None = None
    _told = False

    def count(self) -> None:
        """Of all CPUs together."""
        with suppress(QmpClientError, CommandError, OSError):
            self.instructions = sum(instructions_of(self._machine.qmp).values())

    def _events(self) -> str:
        if self.stop is not None and self.stop.is_set():
            return INTERRUPTED
        said = super()._events()
        if said == "panicked":
            self.count()
        if not said and self.shutdown and not self._told:
            self._told = True
            self.count()
            with suppress(QmpClientError, CommandError, OSError):
                self._machine.qmp.execute("quit")
        return said


def run_job(job: Job, stop: threading.Event | None = None) -> Row | None:
    """Run it to its end; None if `stop` was set before."""
    if stop is not None and stop.is_set():
        return None
    row: Row = {"run": job.number, "parameters": job.settings, "seed": job.seed}
    started = time.monotonic()
    try:
        row.update(_done(job, stop))
    except (click.ClickException, CommandError, QmpClientError, OSError) as error:
        row.update({"result": "not-made", "exit-status": kit.FAILED, "why": getattr(error, "message", "") or str(error)})
    if row["result"] == INTERRUPTED:
        return None
    row["seconds"] = round(time.monotonic() - started, 3)
    row["host"] = socket.gethostname()
    if row["exit-status"] != kit.OK:
        row["again"] = job.again()
    return row


def _done(job: Job, stop: threading.Event | None) -> Row:
    elsewhere = bool(job.folder) and job.folder != os.getcwd()
    source = os.path.join(job.folder, job.source) if os.path.exists(os.path.join(job.folder, job.source)) else job.source
    made = compiled(source, job.settings)
    console = console_of(made, job.chardev, bool(job.expect or job.fail))
    watch = Watch(job.expect, job.fail)
    machine = Local(Plan(
        f"sweep-{os.getpid()}-{job.number}", job.source, job.settings, made.commands, console, False,
        stays=True, quietly=True, folder=job.folder if elsewhere else "",
    ))  # fmt: skip
    run = _Counted(machine, watch, _nowhere, job.timeout, False)
    run.stop = stop
    try:
        result = run.until_end(None)
        if run.instructions is None:
            run.count()
        why = explain(result, run, watch, machine, job.timeout)
    finally:
        machine.stop()
    row: Row = {
        "result": result, "exit-status": dict(STATUSES).get(result, kit.INTERRUPTED), "text": watch.found or None,
        "guest-code": run.shutdown.get("code"), "instructions": run.instructions,
    }  # fmt: skip
    if result != "expected":
        row["console"] = watch.tail.decode(errors="replace")[-TAIL:]
    return {**row, "why": why} if why else row


def _nowhere(data: bytes) -> None:
    """Instead of printing it."""


def run_local(jobs: Iterable[Job], workers: int) -> Iterator[Row]:
    """On this host, `workers` at a time. Closing the iterator ends the machines that run."""
    stop = threading.Event()
    waiting: set[Future[Row | None]] = set()
    with ThreadPoolExecutor(workers, "run") as pool:
        try:
            for job in jobs:
                waiting.add(pool.submit(run_job, job, stop))
                if len(waiting) >= 2 * workers:  # so that any number of jobs takes little memory
                    ended, waiting = wait(waiting, return_when=FIRST_COMPLETED)
                    yield from filter(None, (each.result() for each in ended))
            while waiting:
                ended, waiting = wait(waiting, return_when=FIRST_COMPLETED)
                yield from filter(None, (each.result() for each in ended))
        finally:
            stop.set()
            for each in waiting:
                each.cancel()


def run_dask(jobs: Iterable[Job], address: str) -> Iterator[Row]:
    """On the workers of a dask cluster whose scheduler is at `address`. They need ratite, and the files at the same paths.
    Closing the iterator takes back what no worker has begun. Mistake without the package."""
    try:
        from distributed import Client, as_completed
    except ImportError:
        raise kit.Mistake("dask.distributed is missing: pip install 'ratite[dask]'") from None
    with Client(address) as client:
        futures = {client.submit(run_job, job, pure=False): job for job in jobs}
        try:
            for future in as_completed(list(futures)):
                job, error = futures.pop(future), future.exception()
                if error is None:
                    yield future.result()
                else:  # the worker has died, several times over
                    yield {
                        "run": job.number, "parameters": job.settings, "seed": job.seed, "result": "lost",
                        "exit-status": kit.FAILED, "why": f"{type(error).__name__}: {error}", "again": job.again(),
                    }  # fmt: skip
        finally:
            client.cancel(list(futures))
