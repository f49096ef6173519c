"""Upload jobs as the v1 API shows them: a status and its updates."""

import time
from contextlib import suppress
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from loradock.registry.transfer import progress_text
from loradock.store.database import Database
from loradock.store.tables import Job, iso, now
from loradock.types.enums import JobStatus
from loradock.types.errors import DatabaseBusy, NotFound, StorageFull

_SECONDS_BETWEEN_REPORTS = 0.5


def update(status: JobStatus, message: str) -> dict[str, Any]:
    return {"status": status.value, "message": message, "timestamp": iso(now())}


def advance(job: Job, status: JobStatus, message: str, *, replace_last: bool = False) -> None:
    """Append to the job's updates (a new list: SQLAlchemy does not see changes inside JSON)."""
    kept = job.status_updates[:-1] if replace_last else job.status_updates
    job.status = status
    job.status_updates = [*kept, update(status, message)]
    job.progress = None
    job.updated_at = now()


def get_job(session: Session, account_id: str, job_id: str) -> Job:
    """Raises NotFound, for other accounts' jobs too."""
    job = session.scalar(select(Job).where(Job.id == job_id, Job.account_id == account_id))
    if job is None:
        raise NotFound(f"there is no job {job_id!r}; models upload answers with the job's id")
    return job


def list_jobs(session: Session, account_id: str) -> list[Job]:
    """Newest first."""
    return list(session.scalars(select(Job).where(Job.account_id == account_id).order_by(Job.created_at.desc())))


class JobReporter:
    """Writes a running job's progress; byte counts overwrite each other at most twice a second."""

    def __init__(self, database: Database, job_id: str) -> None:
        self._database = database
        self._job_id = job_id
        self._step = ""
        self._written = 0.0

    def say(self, message: str, status: JobStatus = JobStatus.RUNNING) -> None:
        self._step = ""
        self._write(message, status, None, replace_last=False)

    def bytes(self, step: str, done: int, total: int | None) -> None:
        finished = total is not None and done >= total
        if step == self._step and not finished and time.monotonic() - self._written < _SECONDS_BETWEEN_REPORTS:
            return
        progress = {"step": step, "done": done, "total": total}
        self._write(progress_text(step, done, total), JobStatus.RUNNING, progress, replace_last=step == self._step)
        self._step = step
        self._written = time.monotonic()

    def _write(self, message: str, status: JobStatus, progress: dict[str, Any] | None, *, replace_last: bool) -> None:
        """Progress that cannot be written now is not written."""
        under_way = status is JobStatus.RUNNING
        passed_over = (DatabaseBusy, StorageFull) if under_way else ()
        with suppress(*passed_over), self._database.session(make_room=not under_way) as session:
            job = session.get(Job, self._job_id)
            if job is not None:
                advance(job, status, message, replace_last=replace_last)
                job.progress = progress
