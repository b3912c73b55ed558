"""Jobs: work that a client starts and looks after while it goes on (query-jobs, JOB_STATUS_CHANGE).

    created ──> running ──────────────done──> waiting ──> pending ──finalize──> concluded ──dismiss──> null
                  ^  └──as good as done──> ready ──^           (failed or cancelled: ──> aborting ──> concluded)
                  v                          ^
                paused                       v
                                          standby

What a job does is its class's: `ThreadJob` here, those that copy images in core/backends/block/copy.py.  Jobs of one group
(a transaction's) wait for each other before they are pending, and fail together.  Everything happens on the owner but what a
`ThreadJob` does, which touches nothing of the machine.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar

from ratite.core import log
from ratite.qapi.errors import GenericError

if TYPE_CHECKING:
    from ratite.core.owner import Owner

CREATED, RUNNING, PAUSED, READY, STANDBY, WAITING, PENDING, ABORTING, CONCLUDED, NULL = (
    "created", "running", "paused", "ready", "standby", "waiting", "pending", "aborting", "concluded", "null",
)  # fmt: skip
_AT_WORK = (CREATED, RUNNING, PAUSED, READY, STANDBY)
# In which states a client may say what.
_VERBS: Mapping[str, tuple[str, ...]] = MappingProxyType({
    "cancel": (*_AT_WORK, WAITING, PENDING), "pause": _AT_WORK, "resume": _AT_WORK, "set-speed": _AT_WORK,
    "complete": (READY, STANDBY), "finalize": (PENDING,), "dismiss": (CONCLUDED,),
})  # fmt: skip
# Concluded ones stay until somebody dismisses them.
LIMIT = 1000
_ID = re.compile(r"[A-Za-z][A-Za-z0-9._-]*")
CANCELLED = "Operation canceled"

Emit = Callable[[str, dict[str, Any]], None]


class Progress:
    """What a job's work tells and is told."""

    def __init__(self) -> None:
        self.done = 0
        self.total = 1
        self.cancelled = False


class Job:
    """One job: the part that all kinds have.  A kind calls `ready` and `ended`."""

    KIND: ClassVar[str] = ""
    # Whether it works on a node in use: block-job-* and query-block-jobs know it.
    ON_NODE: ClassVar[bool] = False

    def __init__(self, id: str, auto_finalize: bool = True, auto_dismiss: bool = True) -> None:
        self.id = id
        self.auto_finalize = auto_finalize
        self.auto_dismiss = auto_dismiss
        self.status = CREATED
        self.paused = False
        self.speed = 0
        self.io_status = "ok"
        self.progress = Progress()
        self.error = ""
        self.jobs: Jobs
        self.group: list[Job] = [self]

    # -- what a kind does

    def prepare(self) -> None:
        """It takes what it works on; GenericError, and it has taken nothing."""

    def run(self) -> None:
        """It begins."""
        raise NotImplementedError

    def go_on(self) -> None:
        """`paused` or `speed` has changed."""

    def cancel(self, force: bool) -> None:
        """It is to give up: `ended` follows."""
        self.progress.cancelled = True

    def complete(self) -> None:
        """It is ready, and to end well: `ended` follows."""

    def commit(self) -> None:
        """It ends well, and so do those of its group: what it did takes effect."""

    def abort(self) -> None:
        """It has failed."""

    def close(self) -> None:
        """The machine goes, or those that it was to begin with can't begin: nobody is told."""
        self.progress.cancelled = True

    def info(self) -> dict[str, Any]:
        """JobInfo."""
        found: dict[str, Any] = {
            "id": self.id, "type": self.KIND, "status": self.status, "current-progress": self.progress.done,
            "total-progress": self.progress.total,
        }  # fmt: skip
        return found | ({"error": self.error} if self.error else {})

    def block_info(self) -> dict[str, Any]:
        """BlockJobInfo."""
        found: dict[str, Any] = {
            "type": self.KIND, "device": self.id, "len": self.progress.total, "offset": self.progress.done,
            "busy": self.status in (RUNNING, READY), "paused": self.paused, "speed": self.speed,
            "io-status": self.io_status, "ready": self.status in (READY, STANDBY), "status": self.status,
            "auto-finalize": self.auto_finalize, "auto-dismiss": self.auto_dismiss,
        }  # fmt: skip
        return found | ({"error": self.error} if self.error else {})

    # -- what a kind calls

    def ready(self) -> None:
        """As good as done: a client says when it is to end."""
        self.jobs.ready(self)

    def ended(self, error: str = "") -> None:
        """All is done, or has failed."""
        self.jobs.ended(self, error)


class ThreadJob(Job):
    """A job whose work is a function, done on a thread of its own; it raises GenericError when it fails, and stops soon when
    it is cancelled."""

    def __init__(self, id: str, kind: str, work: Callable[[Progress], None]) -> None:
        super().__init__(id, auto_dismiss=False)
        self.KIND = kind  # type: ignore[misc]  # of each its own
        self._work = work

    def run(self) -> None:
        threading.Thread(target=self._main, name=f"ratite-job-{self.id}", daemon=True).start()

    def _main(self) -> None:
        error = ""
        try:
            self._work(self.progress)
        except GenericError as refusal:
            error = refusal.desc
        except Exception as fault:
            log.error("a job failed inside", job=self.id, error=repr(fault))
            error = f"internal error: {type(fault).__name__}"
        self.jobs.soon(lambda: self._finished(error))

    def _finished(self, error: str) -> None:
        if self.progress.cancelled:
            error = CANCELLED
        else:
            self.progress.done = self.progress.total
        self.ended(error)


class Jobs:
    """The jobs of a machine.  On the owner's side."""

    def __init__(self, owner: Owner, emit: Emit) -> None:
        self.soon = owner.soon
        self._emit = emit
        self._jobs: dict[str, Job] = {}

    # -- beginning

    def start(self, *jobs: Job, grouped: bool = False) -> None:
        """Begins them, at one instant; GenericError, and none has begun."""
        prepared: list[Job] = []
        try:
            for job in jobs:
                self._check(job, jobs)
                job.prepare()
                prepared.append(job)
        except GenericError:
            for job in prepared:
                job.close()
            raise
        for job in jobs:
            job.jobs = self
            job.group = list(jobs) if grouped else [job]
            self._jobs[job.id] = job
            self._enter(job, CREATED)
        for job in jobs:
            self._enter(job, RUNNING)
            job.run()

    def _check(self, job: Job, beside: Sequence[Job]) -> None:
        if not _ID.fullmatch(job.id):
            raise GenericError(f"Invalid job ID '{job.id}'")
        if job.id in self._jobs or any(other.id == job.id for other in beside if other is not job):
            raise GenericError(f"Job ID '{job.id}' already in use")
        if len(self._jobs) + len(beside) > LIMIT:
            raise GenericError(f"there are {LIMIT} jobs, as many as there may be: dismiss those that are concluded")

    # -- clients

    def block_list(self) -> list[dict[str, Any]]:
        """query-block-jobs, the newest first."""
        return [job.block_info() for job in reversed(self._jobs.values()) if job.ON_NODE]

    def list(self) -> list[dict[str, Any]]:
        """query-jobs, the newest first."""
        return [job.info() for job in reversed(self._jobs.values())]

    def find(self, id: str, verb: str) -> Job:
        """The job, if it may be told so now; GenericError."""
        job = self._jobs.get(id)
        if job is None:
            raise GenericError("Job not found")
        if job.status not in _VERBS[verb]:
            raise GenericError(f"Job '{id}' in state '{job.status}' cannot accept command verb '{verb}'")
        return job

    def cancel(self, id: str, force: bool = True) -> None:
        """job-cancel; a ready one that isn't forced ends well, without what `complete` would do besides."""
        self._cancel(self.find(id, "cancel"), force)

    def _cancel(self, job: Job, force: bool) -> None:
        if job.status in (WAITING, PENDING):
            self._fail(job, CANCELLED)
        else:
            if job.paused:
                self._set_paused(job, False)
            job.cancel(force)

    def pause(self, id: str) -> None:
        """job-pause."""
        job = self.find(id, "pause")
        if job.paused:
            raise GenericError("Job is already paused")
        self._set_paused(job, True)

    def resume(self, id: str) -> None:
        """job-resume."""
        job = self.find(id, "resume")
        if not job.paused:
            raise GenericError("Can't resume a job that was not paused")
        job.io_status = "ok"
        self._set_paused(job, False)

    def pause_for_error(self, job: Job) -> None:
        """A job meets an error that is to stop it, until somebody resumes it."""
        if not job.paused:
            self._set_paused(job, True)

    def _set_paused(self, job: Job, paused: bool) -> None:
        job.paused = paused
        pairs = ((RUNNING, PAUSED), (READY, STANDBY))
        for at_work, stopped in pairs:
            if job.status == (at_work if paused else stopped):
                self._enter(job, stopped if paused else at_work)
                break
        job.go_on()

    def set_speed(self, id: str, speed: int) -> None:
        """block-job-set-speed."""
        job = self.find(id, "set-speed")
        if speed < 0:
            raise GenericError("Parameter 'speed' expects a non-negative value")
        job.speed = speed
        job.go_on()

    def complete(self, id: str) -> None:
        """job-complete."""
        self.find(id, "complete").complete()

    def finalize(self, id: str) -> None:
        """job-finalize: the job and its group."""
        self._finalize(self.find(id, "finalize"))

    def dismiss(self, id: str) -> None:
        """job-dismiss."""
        self._dismiss(self.find(id, "dismiss"))

    def close(self) -> None:
        """The machine goes."""
        for job in self._jobs.values():
            job.close()

    # -- kinds

    def ready(self, job: Job) -> None:
        """See Job.ready."""
        self._enter(job, STANDBY if job.paused else READY)
        self._tell(job, "BLOCK_JOB_READY")

    def ended(self, job: Job, error: str) -> None:
        """See Job.ended."""
        if job.status not in _AT_WORK:
            return
        if error:
            self._fail(job, error)
            return
        self._enter(job, WAITING)
        if all(other.status == WAITING for other in job.group):
            for other in job.group:
                self._enter(other, PENDING)
                if other.ON_NODE and not other.auto_finalize:
                    self._emit("BLOCK_JOB_PENDING", {"type": other.KIND, "id": other.id})
            if all(other.auto_finalize for other in job.group):
                self._finalize(job)

    def tell_error(self, job: Job, operation: str, action: str) -> None:
        """A job's I/O has failed."""
        self._emit("BLOCK_JOB_ERROR", {"device": job.id, "operation": operation, "action": action})

    # -- ends

    def _finalize(self, job: Job) -> None:
        for other in job.group:
            try:
                other.commit()
            except GenericError as refusal:
                self._fail(other, refusal.desc)
                return
            self._conclude(other)

    def _fail(self, job: Job, error: str) -> None:
        job.error = error
        self._enter(job, ABORTING)
        job.abort()
        self._conclude(job)
        for other in job.group:
            if other.status in (*_AT_WORK, WAITING, PENDING):
                self._cancel(other, True)

    def _conclude(self, job: Job) -> None:
        self._tell(job, "BLOCK_JOB_CANCELLED" if job.error == CANCELLED else "BLOCK_JOB_COMPLETED")
        self._enter(job, CONCLUDED)
        if job.auto_dismiss:
            self._dismiss(job)

    def _dismiss(self, job: Job) -> None:
        del self._jobs[job.id]
        self._enter(job, NULL)

    def _tell(self, job: Job, event: str) -> None:
        if job.ON_NODE:
            data: dict[str, Any] = {
                "type": job.KIND, "device": job.id, "len": job.progress.total, "offset": job.progress.done,
                "speed": job.speed,
            }  # fmt: skip
            if job.error and event == "BLOCK_JOB_COMPLETED":
                data["error"] = job.error
            self._emit(event, data)

    def _enter(self, job: Job, status: str) -> None:
        job.status = status
        self._emit("JOB_STATUS_CHANGE", {"id": job.id, "status": status})
