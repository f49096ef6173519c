"""A registry on a real database and folder. Light to import: whole processes of it are killed in tests."""

import time
from dataclasses import dataclass
from pathlib import Path

from loradock.registry.bases.base_models import BaseModels
from loradock.registry.blobs import Blobs
from loradock.registry.jobs import get_job
from loradock.registry.sources import SourceRules
from loradock.registry.uploads.upload_request import UploadRequest
from loradock.registry.uploads.uploads import UploadRunner
from loradock.store.accounts import ensure_account
from loradock.store.database import Database
from loradock.store.models import find_model
from loradock.store.tables import Job, Model
from loradock.types.enums import JobStatus
from tests.databases import open_database

ENDED = (JobStatus.COMPLETE, JobStatus.FAILED)


@dataclass
class Registry:
    database: Database
    blobs: Blobs
    bases: BaseModels
    uploads: UploadRunner
    account: str
    data_dir: Path
    import_root: Path

    def upload(self, name: str = "mine", **request) -> Job:
        """Submit and wait for the end."""
        job, _ = self.uploads.submit(self.account, UploadRequest(name, **request))
        return self.ended(job.id)

    def ended(self, job_id: str) -> Job:
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            with self.database.session() as session:
                job = get_job(session, self.account, job_id)
            if job.status in ENDED:
                return job
            time.sleep(0.01)
        raise AssertionError(f"job still {job.status}: {job.status_updates}")

    def model(self, name: str = "mine") -> Model | None:
        with self.database.session() as session:
            model = find_model(session, self.account, name)
            assert model is None or model.revisions is not None
            return model

    def leftovers(self) -> list[str]:
        return [path.name for path in self.blobs.staging.iterdir()]

    def stored(self) -> list[str]:
        return sorted(path.name for path in self.blobs.root.iterdir())


def last_message(job: Job) -> str:
    message: str = job.status_updates[-1]["message"]
    return message


def open_registry(data_dir: Path, import_root: Path, hub: str, **options) -> Registry:
    data_dir.mkdir(exist_ok=True)
    database = open_database(data_dir / "loradock.db")
    with database.session() as session:
        account = ensure_account(session, "tester").id
    blobs = Blobs(data_dir)
    bases = BaseModels(database, blobs, data_dir, import_root, hub)
    rules = SourceRules(import_root, allow_private_sources=True, hub_endpoint=hub)
    uploads = UploadRunner(database, blobs, **{"bases": bases, "rules": rules, **options})
    return Registry(database, blobs, bases, uploads, account, data_dir, import_root)
