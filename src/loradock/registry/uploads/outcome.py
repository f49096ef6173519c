"""The outcome of an upload job, and the attach that may follow the upload."""

import logging
import threading
from collections.abc import Callable

from loradock.registry.jobs import JobReporter, advance
from loradock.registry.uploads.acceptance import Accepted
from loradock.registry.uploads.task import UploadTask
from loradock.store.database import Database
from loradock.store.events import Facts
from loradock.store.failures import DATABASE_FAILURES
from loradock.store.repeats import Repeats
from loradock.store.tables import Job, Model
from loradock.types.enums import JobStatus
from loradock.types.errors import LoradockError

logger = logging.getLogger(__name__)
_RETRY_S = 1.0

AfterUpload = Callable[[str, str, str], None]
"""(account id, adapter model name, endpoint): attaches, or raises LoradockError saying why not."""


class Outcome:
    """Recorded as soon as the database takes it, since the job's client waits for it. Once `stopping` is set that is
    not tried again: `recover` tells it."""

    def __init__(self, database: Database, after_upload: AfterUpload | None, stopping: threading.Event) -> None:
        self._database = database
        self._after_upload = after_upload
        self._stopping = stopping
        self._repeats = Repeats(logger)

    def failed(self, task: UploadTask, reason: str) -> None:
        """The name is free again; the job stays and says why."""
        self._surely(task, lambda: self._record_failure(task, reason))

    def succeeded(self, task: UploadTask, accepted: Accepted, reporter: JobReporter) -> None:
        """The attach asked for with lora_model. The upload stands whatever becomes of it."""
        endpoint = task.request.lora_model
        if endpoint is None:
            return
        reporter.say(f"attaching to {endpoint}")
        end = f"{task.model.name} is ready: {accepted.note}; {self._attached(task, endpoint)}"
        self._surely(task, lambda: reporter.say(end, JobStatus.COMPLETE))

    def _attached(self, task: UploadTask, endpoint: str) -> str:
        """Attach it and return in words what has become of it."""
        try:
            if self._after_upload is None:
                raise LoradockError("this server has no running control loop")
            self._after_upload(task.job.account_id, task.model.name, endpoint)
        except LoradockError as error:
            return f"attaching it to {endpoint} failed: {error.whole}"
        except Exception:
            logger.exception("attaching %s after its upload failed", task.model.name)
            return f"attaching it to {endpoint} failed: see the server log"
        return f"attached to {endpoint}"

    def _record_failure(self, task: UploadTask, reason: str) -> None:
        with self._database.session(make_room=True) as session:
            model = session.get(Model, task.model.id)
            if model is not None:
                session.delete(model)
            advance(session.get_one(Job, task.job.id), JobStatus.FAILED, reason)
            gone = Facts(name=task.model.name)
            session.add(task.event("model.upload_failed", f"{task.model.name}: {reason}", gone))

    def _surely(self, task: UploadTask, record: Callable[[], None]) -> None:
        what = f"recording the end of upload job {task.job.id}"
        while True:
            try:
                record()
                return self._repeats.worked(what)
            except DATABASE_FAILURES as error:
                self._repeats.failed(what, error)
                if self._stopping.wait(_RETRY_S):
                    raise
