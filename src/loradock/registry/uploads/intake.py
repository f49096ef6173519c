"""The way of an upload from its source to a model: fetch → inspect → publish by rename → one commit, or nothing."""

import shutil
import threading
from pathlib import Path

from sqlalchemy import select

from loradock.registry.bases.base_models import BaseModels
from loradock.registry.blobs import Blobs
from loradock.registry.jobs import JobReporter, advance
from loradock.registry.packed import keep_packed
from loradock.registry.settling import SeenBases
from loradock.registry.transfer import Limits, Transfer, UploadStopped
from loradock.registry.uploads.acceptance import Accepted, accept
from loradock.registry.uploads.task import UploadTask
from loradock.store.database import Database
from loradock.store.tables import Job, Model, Revision
from loradock.types.enums import JobStatus, ModelKind, ModelState
from loradock.types.names import new_id


class Intake:
    """Fails with UploadStopped once `stopping` is set."""

    def __init__(
        self, database: Database, blobs: Blobs, bases: BaseModels, limits: Limits, stopping: threading.Event
    ) -> None:
        self._database = database
        self._blobs = blobs
        self._bases = bases
        self._limits = limits
        self._stopping = stopping

    def bring_in(self, task: UploadTask, reporter: JobReporter) -> Accepted:
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

    def _fetch(self, task: UploadTask, workspace: Path, files: Path, reporter: JobReporter) -> Accepted:
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

    def _commit(self, task: UploadTask, accepted: Accepted, digest: str, size: int) -> None:
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
            session.add(task.event("model.uploaded", f"{model.name}: {accepted.note}"))
            job = session.get_one(Job, task.job.id)
            job.type = f"{accepted.kind.value}_upload"
            if task.request.lora_model is None:
                advance(job, JobStatus.COMPLETE, f"{model.name} is ready: {accepted.note}")

    def _free_unless_shared(self, digest: str) -> None:
        with self._database.session() as session:
            shared = session.scalar(select(Revision.id).where(Revision.digest == digest)) is not None
        if not shared:
            self._blobs.free(digest)
