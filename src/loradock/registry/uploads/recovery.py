"""Recovers after a kill: uploads that were under way become failures, and files without rows are set aside."""

import logging

from sqlalchemy import select

from loradock.registry.blobs import Blobs, digests_in
from loradock.registry.jobs import advance
from loradock.store.database import Database
from loradock.store.tables import Job, Model, Revision
from loradock.types.enums import JobStatus, ModelState

_DAY_S = 86_400.0
_log = logging.getLogger(__name__)

STOPPED = "the server stopped during this upload; upload again"


def recover(database: Database, blobs: Blobs, trash_days: int = 14) -> None:
    """Idempotent, so that being killed in here does no harm either."""
    with database.session() as session:
        unfinished = select(Job).where(Job.status.in_([JobStatus.QUEUED, JobStatus.RUNNING]))
        for job in session.scalars(unfinished):
            model = session.get(Model, job.model_id)
            if model is not None and model.state is ModelState.READY:
                advance(job, JobStatus.COMPLETE, _not_attached(job, model))
            else:
                advance(job, JobStatus.FAILED, STOPPED)
        for model in session.scalars(select(Model).where(Model.state == ModelState.UPLOADING)):
            session.delete(model)
    with database.session() as session:
        known = select(Revision.digest, Model.name).join(Model, Model.id == Revision.model_id)
        names = {row.digest: row.name for row in session.execute(known)}
    if back := blobs.take_back(names):
        _log.warning("the files of %d models are back from trash/: the database knows them", len(back))
    if aside := blobs.collect(names):
        _log.warning(
            "the files of %d models that the database does not know were set aside in trash/ and are kept for %d days:"
            " a start with a database that knows them takes them back",
            len(aside),
            trash_days,
        )
    if missing := names.keys() - digests_in(blobs.root):
        _log.error(
            "the files of %d of %d models are missing in blobs/ (%s%s): put them back, or upload these models again",
            len(missing),
            len(names),
            ", ".join(sorted(names[digest] for digest in missing)[:5]),
            ", …" if len(missing) > 5 else "",
        )
    if emptied := blobs.empty_trash(trash_days * _DAY_S):
        _log.info("trash/: %d things that were set aside %d days ago were deleted", len(emptied), trash_days)


def _not_attached(job: Job, model: Model) -> str:
    endpoint = job.args.get("loraModel")
    return f"{model.name} is ready; the server stopped before it was attached to {endpoint}: attach it now"
