"""kill -9 at random points of uploading and deleting: afterwards everything is whole or gone."""

import random
import shutil
import subprocess
import sys
import time

import pytest
from sqlalchemy import select

from loradock.checkpoints.adapters.inspection import inspect_adapter
from loradock.registry.jobs import list_jobs
from loradock.registry.models import list_models
from loradock.registry.uploads.recovery import STOPPED, recover
from loradock.store.tables import Job, Model, Revision
from loradock.types.enums import JobStatus, ModelKind, ModelState
from tests.registry.rig import last_message, open_registry

ROUNDS = 14
SERVER = """
import itertools, sys
from pathlib import Path
from loradock.registry.models import delete_model
from loradock.registry.uploads.upload_request import UploadRequest
from loradock.types.enums import JobStatus
from tests.registry.rig import open_registry

registry = open_registry(Path(sys.argv[1]), Path(sys.argv[2]), "http://127.0.0.1:9")
registry.uploads.recover()
registry.uploads.start()
print("up", flush=True)
for n in itertools.count():
    sources = ("file://a", "file://b", "file://c", "file://broken")
    jobs = [registry.uploads.submit(registry.account, UploadRequest(f"m{sys.argv[3]}-{n}-{i}", model_source=source))[0]
            for i, source in enumerate(sources)]
    for job, source in zip(jobs, sources):
        ended = registry.ended(job.id)
        if ended.status is JobStatus.COMPLETE and source == "file://a":
            delete_model(registry.database, registry.blobs, registry.account, ended.args["modelName"])
"""


@pytest.fixture
def imports(tmp_path, adapter_files):
    root = tmp_path / "imports"
    root.mkdir(exist_ok=True)
    for name in ("a", "b", "c", "broken"):
        shutil.copytree(adapter_files, root / name)
        (root / name / "adapter_config.json").write_text(
            (root / name / "adapter_config.json")
            .read_text()
            .replace('"lora_alpha": 8', f'"lora_alpha": {8 + ord(name[0])}')
        )
    weights = root / "broken" / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-4])
    return root


def check_whole(registry) -> tuple[int, int]:
    """(models, failed jobs) after recovery; every row and folder belongs to something whole."""
    with registry.database.session() as session:
        models = list_models(session, registry.account)
        assert {model.state for model in models} <= {ModelState.READY}
        digests = {model.revisions[0].digest for model in models if len(model.revisions) == 1}
        assert len(list(session.scalars(select(Revision)))) == len(models)
        jobs = list_jobs(session, registry.account)
        assert {job.status for job in jobs} <= {JobStatus.COMPLETE, JobStatus.FAILED}
        complete = {job.model_id for job in jobs if job.status is JobStatus.COMPLETE}
        assert {model.id for model in models} <= complete
    assert registry.leftovers() == []
    assert set(registry.stored()) == digests
    for digest in digests:
        inspect_adapter(registry.blobs.path(digest), None)
    return len(models), sum(last_message(job) == STOPPED for job in jobs)


def test_killed_at_random_points(tmp_path, imports):
    chance = random.Random(11)
    data_dir = tmp_path / "data"
    models = stopped = round_ = 0
    span = 0.4
    while round_ < ROUNDS or not models or not stopped:
        command = [sys.executable, "-c", SERVER, str(data_dir), str(imports), str(round_)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
            assert server.stdout.readline() == "up\n"
            time.sleep(chance.uniform(0, span))
            server.kill()
        registry = open_registry(data_dir, imports, "http://127.0.0.1:9")
        registry.uploads.recover()
        models, stopped = check_whole(registry)
        recover(registry.database, registry.blobs)
        assert check_whole(registry) == (models, stopped)
        registry.database.close()
        round_ += 1
        assert round_ < 4 * ROUNDS
        if round_ >= ROUNDS:
            span *= 1.3  # a slow machine has not brought in anything yet


def test_an_upload_cut_off_before_its_attach_stands(registry, imports):
    job = registry.upload(model_source="file://a", lora_model="endpoint-1", lora_base="tester/tiny")
    with registry.database.session() as session:
        session.get(Job, job.id).status = JobStatus.RUNNING
    recover(registry.database, registry.blobs)
    job = registry.ended(job.id)
    assert job.status is JobStatus.COMPLETE
    assert "stopped before it was attached to endpoint-1" in last_message(job)
    assert registry.model().state is ModelState.READY


def test_a_name_is_free_again(registry, imports):
    with registry.database.session() as session:
        session.add(Model(id="ml_1", account_id=registry.account, name="tester/mine", kind=ModelKind.ADAPTER))
        session.add(Job(id="job-1", account_id=registry.account, type="adapter_upload", model_id="ml_1"))
    recover(registry.database, registry.blobs)
    assert last_message(registry.ended("job-1")) == STOPPED
    assert registry.upload(model_source="file://a").status is JobStatus.COMPLETE
