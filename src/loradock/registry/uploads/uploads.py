"""Uploads as background jobs: fetch → inspect → publish by rename → one commit → attach, or nothing at all."""

import logging
import queue
import shutil
import threading
import time
from collections.abc import Callable
from contextvars import Context, copy_context
from dataclasses import dataclass, field
from pathlib import Path

from sqlalchemy import select
from sqlalchemy.exc import IntegrityError

from loradock.registry.bases.base_models import BaseModels
from loradock.registry.blobs import Blobs
from loradock.registry.jobs import JobReporter, advance
from loradock.registry.packed import keep_packed
from loradock.registry.settling import SeenBases
from loradock.registry.sources import Source, SourceRules, read_source
from loradock.registry.transfer import Limits, Transfer, UploadStopped
from loradock.registry.uploads.acceptance import Accepted, accept
from loradock.registry.uploads.received import Received
from loradock.registry.uploads.recovery import recover
from loradock.registry.uploads.upload_request import NameUsed, UploadRequest, open_upload
from loradock.store.database import Database
from loradock.store.events import Facts
from loradock.store.failures import DATABASE_FAILURES, room_on_disk
from loradock.store.repeats import Repeats
from loradock.store.tables import Event, Job, Model, Revision
from loradock.types.enums import JobStatus, ModelKind, ModelState
from loradock.types.errors import LoradockError
from loradock.types.names import new_id

logger = logging.getLogger(__name__)
_RETRY_S = 1.0

AfterUpload = Callable[[str, str, str], None]
"""(account id, adapter model name, endpoint): attaches, or raises LoradockError saying why not."""


@dataclass(frozen=True)
class _Task:
    job: Job
    model: Model
    request: UploadRequest
    source: Source
    context: Context = field(default_factory=copy_context)
    """Of the request that submitted it: what the job does is done by whoever asked for it."""


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
        self._bases = bases
        self._rules = rules or SourceRules()
        self._limits = limits or Limits()
        self.after_upload = after_upload
        self._trash_days = trash_days
        self._tasks: queue.SimpleQueue[_Task | None] = queue.SimpleQueue()
        self._stopping = threading.Event()
        self._repeats = Repeats(logger)
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
        """A place for files that come in the request body; discard it unless it is submitted."""
        return Received(self._blobs, self._limits)

    def submit(self, account_id: str, request: UploadRequest) -> tuple[Job, Model]:
        """Queue an upload. Raises BadRequest for what is wrong with the request; then nothing is kept of it."""
        try:
            source = request.received or read_source(request.model_source or "", self._rules, request.hf_token)
            with self._database.session() as session:
                job, model = open_upload(session, account_id, request, source.label)
        except Exception as error:
            if request.received is not None:
                request.received.discard()
            if isinstance(error, IntegrityError):
                raise NameUsed(name=request.model_name, param="model_name") from error
            raise
        self._tasks.put(_Task(job, model, request, source))
        return job, model

    def _work(self) -> None:
        while (task := self._tasks.get()) is not None:
            try:
                task.context.run(self._run, task)
            except Exception:
                logger.exception("upload job %s could not be recorded", task.job.id)

    def _run(self, task: _Task) -> None:
        reporter = JobReporter(self._database, task.job.id)
        try:
            with room_on_disk():
                accepted = self._bring_in(task, reporter)
        except LoradockError as error:
            reason = error.message
            self._surely(task, lambda: self._fail(task, reason))
        except Exception as error:
            # The text of a foreign error may carry a signed URL: the name of its kind is all that is kept.
            logger.exception("upload job %s failed", task.job.id)
            reason = f"the upload failed for a reason of the server's ({type(error).__name__}); see its log"
            self._surely(task, lambda: self._fail(task, reason))
        else:
            self._finish(task, accepted, reporter)

    def _surely(self, task: _Task, record: Callable[[], None]) -> None:
        """The end of a job, as soon as the database takes it: its client waits for it. Else `recover` tells it."""
        what = f"recording the end of upload job {task.job.id}"
        while True:
            try:
                record()
                return self._repeats.worked(what)
            except DATABASE_FAILURES as error:
                self._repeats.failed(what, error)
                if self._stopping.wait(_RETRY_S):
                    raise

    def _bring_in(self, task: _Task, reporter: JobReporter) -> Accepted:
        """Staging is empty again before the job's end can be seen."""
        workspace = self._blobs.stage()
        files = workspace / "files"
        files.mkdir()
        try:
            accepted = self._fetch(task, workspace, files, reporter)
            reporter.say(f"publishing: {accepted.note}")
            with self._blobs.lock:
                digest, size = self._blobs.publish(files)
                shutil.rmtree(workspace)
                if accepted.kind is ModelKind.ADAPTER:
                    keep_packed(self._blobs.path(digest))  # one that was there already may be of an earlier version
                try:
                    self._commit(task, accepted, digest, size)
                except Exception:
                    self._free_unless_shared(digest)
                    raise
        finally:
            shutil.rmtree(workspace, ignore_errors=True)
            if task.request.received is not None:
                task.request.received.discard()
        return accepted

    def _fetch(self, task: _Task, workspace: Path, files: Path, reporter: JobReporter) -> Accepted:
        if self._stopping.is_set():
            raise UploadStopped
        transfer = Transfer(reporter.bytes, self._limits, self._stopping.is_set)
        reporter.say(f"fetching {task.source.label}")
        kind = task.source.fetch(workspace, files, task.request.kind, transfer, task.request.subfolder)
        reporter.say("inspecting")
        bases = SeenBases(self._bases, task.job.account_id)
        accepted = accept(files, kind, task.model.name, task.request.wanted_base, bases)
        if kind is ModelKind.ADAPTER:
            keep_packed(files)
        return accepted

    def _commit(self, task: _Task, accepted: Accepted, digest: str, size: int) -> None:
        """Revision, model and (unless an attach follows) the end of the job: all or none."""
        with self._database.session() as session:
            model = session.get_one(Model, task.model.id)
            model.state = ModelState.READY
            model.kind = accepted.kind
            model.base_model = accepted.base_model
            session.add(
                Revision(
                    id=new_id("rev"),
                    model=model,
                    digest=digest,
                    size_bytes=size,
                    rank=accepted.rank,
                    target_modules=accepted.target_modules,
                )
            )
            session.add(_event(task, "model.uploaded", f"{model.name}: {accepted.note}"))
            job = session.get_one(Job, task.job.id)
            job.type = f"{accepted.kind.value}_upload"
            if task.request.lora_model is None:
                advance(job, JobStatus.COMPLETE, f"{model.name} is ready: {accepted.note}")

    def _free_unless_shared(self, digest: str) -> None:
        with self._database.session() as session:
            shared = session.scalar(select(Revision.id).where(Revision.digest == digest)) is not None
        if not shared:
            self._blobs.free(digest)

    def _finish(self, task: _Task, accepted: Accepted, reporter: JobReporter) -> None:
        """The attach asked for with lora_model. The upload stands whatever becomes of it."""
        endpoint = task.request.lora_model
        if endpoint is None:
            return
        reporter.say(f"attaching to {endpoint}")
        end = f"{task.model.name} is ready: {accepted.note}; {self._attached(task, endpoint)}"
        self._surely(task, lambda: reporter.say(end, JobStatus.COMPLETE))

    def _attached(self, task: _Task, endpoint: str) -> str:
        """What has become of it, in words."""
        try:
            if self.after_upload is None:
                raise LoradockError("this server has no running control loop")
            self.after_upload(task.job.account_id, task.model.name, endpoint)
        except LoradockError as error:
            return f"attaching it to {endpoint} failed: {error.whole}"
        except Exception:
            logger.exception("attaching %s after its upload failed", task.model.name)
            return f"attaching it to {endpoint} failed: see the server log"
        return f"attached to {endpoint}"

    def _fail(self, task: _Task, reason: str) -> None:
        """The name is free again; the job stays and says why."""
        with self._database.session(make_room=True) as session:
            model = session.get(Model, task.model.id)
            if model is not None:
                session.delete(model)
            advance(session.get_one(Job, task.job.id), JobStatus.FAILED, reason)
            gone = Facts(name=task.model.name)
            session.add(_event(task, "model.upload_failed", f"{task.model.name}: {reason}", gone))


def _event(task: _Task, kind: str, message: str, facts: Facts | None = None) -> Event:
    account_id, subject_id = task.job.account_id, task.model.id
    return Event(account_id=account_id, subject_id=subject_id, kind=kind, message=message, facts=facts)
