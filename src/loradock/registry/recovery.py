"""After a kill: uploads that were under way become failures, and files without rows go."""

from sqlalchemy import select

from loradock.registry.blobs import Blobs
from loradock.registry.jobs import advance
from loradock.store.database import Database
from loradock.store.tables import Job, Model, Revision
from loradock.types.enums import JobStatus, ModelState

STOPPED = "the server stopped during this upload; upload again"


def recover(database: Database, blobs: Blobs) -> None:
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
        referenced = list(session.scalars(select(Revision.digest)))
    blobs.collect(referenced)


def _not_attached(job: Job, model: Model) -> str:
    endpoint = job.args.get("loraModel")
    return f"{model.name} is ready; the server stopped before it was attached to {endpoint}: attach it now"
