"""Rows of an account that has much of everything, written into a running server's database."""

import os
import shutil
from datetime import timedelta

from loradock.store.accounts import create_key, ensure_account
from loradock.store.database import Database
from loradock.store.tables import Attachment, Deployment, Endpoint, Event, Job, Model, Revision, now
from loradock.types.enums import AttachmentState, AttachStep, ModelKind, ModelState
from loradock.types.names import new_id
from tests.servers import BASE, EXAMPLES, RunningServer

WHY = "GPU 0 has 3.1 GiB free and this model needs 14.2 GiB: stop something else on it, or choose other hardware"


def crowd(server: RunningServer, slug: str, *, free=0, attached=0, endpoints=0, keys=0, jobs=0, attaches=0) -> str:
    """`free` and `attached` adapters; `endpoints` besides the one, called harbour, that has the attached ones; uploads,
    every tenth refused; `attaches` that were done, with their steps. Returns harbour's id."""
    database = Database(f"sqlite:///{server.data_dir / 'loradock.db'}")
    with database.session() as session:
        account = ensure_account(session, slug)
        harbour = _endpoint(account, "harbour", "STOPPED")
        session.add(harbour)
        for number in range(endpoints):
            state = ("STOPPED", "ERROR")[number % 2]
            session.add(_endpoint(account, f"berth-{number:03}", state, WHY if state == "ERROR" else None))
        for number in range(free + attached):
            model = _adapter(server, account, f"tone-{number:04}", number)
            session.add(model)
            if number >= free:
                session.flush()
                session.add(_attachment(harbour, model))
            if number < attaches:
                session.flush()
                _attach_events(session, account, model, harbour, number)
        for number in range(keys):
            create_key(session, slug, f"laptop-{number:03}")
        for number in range(jobs):
            session.add(_job(account, number))
        harbour_id = harbour.id
    database.close()
    return harbour_id


def _endpoint(account, name, state, message=None):
    deployment = Deployment(id=new_id("dep"), base_model=BASE, hardware="cpu", state=state, desired="STOPPED")
    deployment.message = message
    id_ = new_id("endpoint")
    return Endpoint(
        id=id_, account=account, name=f"{account.slug}/{id_[-8:]}", display_name=name, deployments=[deployment]
    )


def _adapter(server, account, name, number):
    digest = f"{account.slug}{name}".encode().hex()[:64].ljust(64, "0")
    folder = server.data_dir / "blobs" / "sha256" / digest
    folder.mkdir(parents=True, exist_ok=True)
    for file in ("adapter_config.json", "adapter_model.safetensors"):
        if not (source := server.data_dir / file).exists():
            shutil.copy(EXAMPLES / "pirate" / file, source)
        os.link(source, folder / file)  # one content for all
    model = Model(id=new_id("ml"), account=account, name=f"{account.slug}/{name}", kind=ModelKind.ADAPTER)
    model.base_model, model.state, model.created_at = BASE, ModelState.READY, now() - timedelta(minutes=number)
    revision = Revision(id=new_id("rev"), digest=digest, size_bytes=1_000_000 + number, rank=8)
    revision.target_modules = ["q_proj", "v_proj"]
    model.revisions = [revision]
    return model


def _attachment(endpoint, model):
    row = Attachment(id=new_id("att"), deployment=endpoint.deployments[0], model=model, revision=model.revisions[0])
    row.engine_name, row.state = model.name, AttachmentState.ATTACHED
    return row


def _attach_events(session, account, model, endpoint, number):
    begun = now() - timedelta(hours=1) + timedelta(seconds=number)
    for step, name in enumerate(AttachStep):
        message = f"{model.name} → {endpoint.name}" if step == 0 else model.name
        event = Event(account_id=account.id, subject_id=model.id, kind=f"attach.{name}", message=message, actor="crowd")
        event.endpoint_id = endpoint.id
        event.facts = {"adapter": model.name, "endpoint": endpoint.name, "step": name}
        if name is AttachStep.ROUTE:
            event.facts["duration_ms"] = 7 * step
        event.created_at = begun + timedelta(milliseconds=7 * step)
        session.add(event)


def _job(account, number):
    said = [{"status": "Running", "message": "inspecting", "timestamp": now().isoformat()}]
    refused = number % 10 == 0
    last = "adapter_config.json says rank 4, the weights have 8" if refused else "it is ready"
    said.append({"status": "Failed" if refused else "Complete", "message": last, "timestamp": now().isoformat()})
    args = {"modelName": f"{account.slug}/upload-{number:03}", "modelSource": "org/name"}
    job = Job(id=new_id("job"), account_id=account.id, type="adapter_upload", status=said[-1]["status"], args=args)
    job.status_updates, job.model_id, job.created_at = said, new_id("ml"), now() - timedelta(minutes=number)
    return job
