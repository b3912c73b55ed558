"""Jobs: work that a client starts and looks after while it goes on (query-jobs, JOB_STATUS_CHANGE).

    created ──> running ──done──> waiting ──> pending ──> concluded ──dismiss──> null
                   └──failed, cancelled──> aborting ──────────^

A job's work is done on a thread of its own, which touches nothing of the machine; everything else happens on the owner.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from ratite.core import log
from ratite.qapi.errors import GenericError

if TYPE_CHECKING:
    from ratite.core.owner import Owner

CREATED, RUNNING, WAITING, PENDING, ABORTING, CONCLUDED, NULL = (
    "created", "running", "waiting", "pending", "aborting", "concluded", "null",
)  # fmt: skip
# In which states a client may say what.
_VERBS: Mapping[str, tuple[str, ...]] = MappingProxyType({
    "cancel": (CREATED, RUNNING, WAITING, PENDING), "complete": (), "finalize": (PENDING,), "dismiss": (CONCLUDED,),
})  # fmt: skip
# Concluded ones stay until somebody dismisses them.
LIMIT = 1000
_ID = re.compile(r"[A-Za-z][A-Za-z0-9._-]*")

Emit = Callable[[str, dict[str, Any]], None]


class Progress:
    """What a job's work tells and is told."""

    def __init__(self) -> None:
        self.done = 0
        self.total = 1
        self.cancelled = False


class Job:
    """One job."""

    def __init__(self, id: str, kind: str) -> None:
        self.id = id
        self.kind = kind
        self.status = CREATED
        self.progress = Progress()
        self.error = ""

    def info(self) -> dict[str, Any]:
        """JobInfo."""
        found: dict[str, Any] = {
            "id": self.id, "type": self.kind, "status": self.status, "current-progress": self.progress.done,
            "total-progress": self.progress.total,
        }  # fmt: skip
        return found | ({"error": self.error} if self.error else {})


class Jobs:
    """The jobs of a machine.  On the owner's side."""

    def __init__(self, owner: Owner, emit: Emit) -> None:
        self._owner = owner
        self._emit = emit
        self._jobs: dict[str, Job] = {}

    def start(self, id: str, kind: str, work: Callable[[Progress], None]) -> None:
        """Begins a job; `work` raises GenericError when it fails, and stops soon when it is cancelled."""
        if not _ID.fullmatch(id):
            raise GenericError(f"Invalid job ID '{id}'")
        if id in self._jobs:
            raise GenericError(f"Job ID '{id}' already in use")
        if len(self._jobs) >= LIMIT:
            raise GenericError(f"there are {LIMIT} jobs, as many as there may be: dismiss those that are concluded")
        job = self._jobs[id] = Job(id, kind)
        self._enter(job, CREATED)
        self._enter(job, RUNNING)
        threading.Thread(target=self._run, args=(job, work), name=f"ratite-job-{id}", daemon=True).start()

    def list(self) -> list[dict[str, Any]]:
        """query-jobs, the newest first."""
        return [job.info() for job in reversed(self._jobs.values())]

    def cancel(self, id: str) -> None:
        """job-cancel."""
        self._find(id, "cancel").progress.cancelled = True

    def complete(self, id: str) -> None:
        """job-complete: no kind of job that there is waits for it."""
        self._find(id, "complete")

    def finalize(self, id: str) -> None:
        """job-finalize: jobs finalize by themselves, so none ever waits for it."""
        self._find(id, "finalize")

    def dismiss(self, id: str) -> None:
        """job-dismiss."""
        job = self._find(id, "dismiss")
        del self._jobs[id]
        self._enter(job, NULL)

    def close(self) -> None:
        """The machine goes."""
        for job in self._jobs.values():
            job.progress.cancelled = True

    def _find(self, id: str, verb: str) -> Job:
        job = self._jobs.get(id)
        if job is None:
            raise GenericError("Job not found")
        if job.status not in _VERBS[verb]:
            raise GenericError(f"Job '{id}' in state '{job.status}' cannot accept command verb '{verb}'")
        return job

    def _run(self, job: Job, work: Callable[[Progress], None]) -> None:
        error = ""
        try:
            work(job.progress)
        except GenericError as refusal:
            error = refusal.desc
        except Exception as fault:
            log.error("a job failed inside", job=job.id, error=repr(fault))
            error = f"internal error: {type(fault).__name__}"
        self._owner.soon(lambda: self._ended(job, error))

    def _ended(self, job: Job, error: str) -> None:
        if job.progress.cancelled:
            error = "Operation canceled"
        else:
            job.progress.done = job.progress.total
        job.error = error
        for status in (ABORTING,) if error else (WAITING, PENDING):
            self._enter(job, status)
        self._enter(job, CONCLUDED)

    def _enter(self, job: Job, status: str) -> None:
        job.status = status
        self._emit("JOB_STATUS_CHANGE", {"id": job.id, "status": status})
