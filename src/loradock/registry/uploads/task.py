"""An upload that waits for its turn, or has it."""

from contextvars import Context, copy_context
from dataclasses import dataclass, field

from loradock.registry.sources import Source
from loradock.registry.uploads.upload_request import UploadRequest
from loradock.store.events import Facts
from loradock.store.tables import Event, Job, Model


@dataclass(frozen=True)
class UploadTask:
    """An upload with its job and model as they were when it was submitted."""

    job: Job
    model: Model
    request: UploadRequest
    source: Source
    context: Context = field(default_factory=copy_context)
    """The context of the request that submitted it: what the job does is done by whoever asked for it."""

    def event(self, kind: str, message: str, facts: Facts | None = None) -> Event:
        account_id, subject_id = self.job.account_id, self.model.id
        return Event(account_id=account_id, subject_id=subject_id, kind=kind, message=message, facts=facts)
