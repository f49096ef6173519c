"""Uploads as background jobs: fetch → inspect → publish by rename → one commit → attach, or nothing at all."""

import logging
import queue
import threading
import time

from sqlalchemy.exc import IntegrityError

from loradock.registry.bases.base_models import BaseModels
from loradock.registry.blobs import Blobs
from loradock.registry.jobs import JobReporter
from loradock.registry.sources import SourceRules, read_source
from loradock.registry.transfer import Limits
from loradock.registry.uploads.intake import Intake
from loradock.registry.uploads.outcome import AfterUpload, Outcome
from loradock.registry.uploads.received import Received
from loradock.registry.uploads.recovery import recover
from loradock.registry.uploads.task import UploadTask
from loradock.registry.uploads.upload_request import NameUsed, UploadRequest, open_upload
from loradock.store.database import Database
from loradock.store.failures import room_on_disk
from loradock.store.tables import Job, Model
from loradock.types.errors import LoradockError

logger = logging.getLogger(__name__)


class UploadRunner:
    """Runs upload jobs in a few threads. `recover` once, then `start`; nothing is queued on disk."""

    def __init__(
        self,
        database: Database,
        blobs: Blobs,
        bases: BaseModels,
        rules: SourceRules | None = None,
        limits: Limits | None = None,
        after_upload: AfterUpload | None = None,
        workers: int = 2,
        trash_days: int = 14,
    ) -> None:
        self._database = database
        self._blobs = blobs
        self._rules = rules or SourceRules()
        self._limits = limits or Limits()
        self._trash_days = trash_days
        self._stopping = threading.Event()
        self._intake = Intake(database, blobs, bases, self._limits, self._stopping)
        self._outcome = Outcome(database, after_upload, self._stopping)
        self._tasks: queue.SimpleQueue[UploadTask | None] = queue.SimpleQueue()
        self._threads = [threading.Thread(target=self._work, name=f"upload-{n}", daemon=True) for n in range(workers)]

    def recover(self) -> None:
        """Undo what a killed server left half done. Before `start`, and before anything is attached."""
        recover(self._database, self._blobs, self._trash_days)

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def close(self, timeout: float = 5) -> None:
        """Running uploads fail with a message that says so; one that waits on its network is left to `recover`."""
        deadline = time.monotonic() + timeout
        self._stopping.set()
        for _ in self._threads:
            self._tasks.put(None)
        for thread in self._threads:
            if thread.ident is not None:
                thread.join(max(0.0, deadline - time.monotonic()))

    def receive(self) -> Received:
        """A place for files that come in the request body, kept for as long as its context or an upload needs it."""
        return Received(self._blobs, self._limits)

    def submit(self, account_id: str, request: UploadRequest) -> tuple[Job, Model]:
        """Queue an upload. Raises BadRequest for what is wrong with the request."""
        try:
            source = request.received or read_source(request.model_source or "", self._rules, request.hf_token)
            with self._database.session() as session:
                job, model = open_upload(session, account_id, request, source.label)
        except IntegrityError as error:
            raise NameUsed(name=request.model_name, param="model_name") from error
        if request.received is not None:
            request.received.hand_over()
        self._tasks.put(UploadTask(job, model, request, source))
        return job, model

    def _work(self) -> None:
        while (task := self._tasks.get()) is not None:
            try:
                task.context.run(self._run, task)
            except Exception:
                logger.exception("upload job %s could not be recorded", task.job.id)

    def _run(self, task: UploadTask) -> None:
        reporter = JobReporter(self._database, task.job.id)
        try:
            with room_on_disk():
                accepted = self._intake.bring_in(task, reporter)
        except LoradockError as error:
            self._outcome.failed(task, error.message)
        except Exception as error:
            # The text of a foreign error may carry a signed URL: the name of its kind is all that is kept.
            logger.exception("upload job %s failed", task.job.id)
            reason = f"the upload failed for a reason of the server's ({type(error).__name__}); see its log"
            self._outcome.failed(task, reason)
        else:
            self._outcome.succeeded(task, accepted, reporter)
