"""Upload models, correct their base model, delete and look at them."""

import asyncio
import time
from collections.abc import Collection
from dataclasses import replace

from sqlalchemy.orm import Session
from starlette.concurrency import run_in_threadpool

from loradock.endpoints.attachments import check_target, find_adapter
from loradock.operations import adapters
from loradock.operations.access import endpoint_for, job_for, model_for, own, require
from loradock.operations.records import JobRecord, ModelRecord
from loradock.operations.services import Services
from loradock.registry.jobs import list_jobs
from loradock.registry.models import delete_model, is_held, list_models, where_attached
from loradock.registry.settling import Settler
from loradock.registry.uploads.received import Received
from loradock.registry.uploads.upload_request import UploadRequest
from loradock.store.tables import Model
from loradock.types.access import Action, Actor, ResourceKind
from loradock.types.enums import ModelKind
from loradock.types.errors import ModelMissing, Unavailable

_DRAIN_S = 90.0
"""The time that deleting waits for an adapter's last requests."""
_LOOK_S = 0.1
_ALL = tuple(ModelKind)


def receive(services: Services, actor: Actor) -> Received:
    """A place for files that come with the request, kept for as long as its context or an upload needs it."""
    require(actor, Action.CREATE, own(actor, ResourceKind.MODEL))
    return services.uploads.receive()


def upload(services: Services, actor: Actor, request: UploadRequest) -> JobRecord:
    """The job that brings the model in. Raises BadRequest for what is wrong with the request, and what
    `check_target` raises for the endpoint that it shall be attached to."""
    require(actor, Action.CREATE, own(actor, ResourceKind.MODEL))
    request = replace(request, lora_base=_lora_base(services, actor, request.lora_model))
    job, _ = services.uploads.submit(actor.account_id, request)
    return JobRecord.of(job)


def change_base(services: Services, actor: Actor, name: str, base_model: str) -> tuple[ModelRecord, str]:
    """Say of an adapter that it is for another base model. Returns it, and what was found. Raises BadRequest,
    ModelMissing, AdapterRefused."""
    require(actor, Action.CHANGE, own(actor, ResourceKind.MODEL))
    found = _settler(services).change_base(actor.account_id, name, base_model)
    model = find(services, actor, name)
    if model is None:  # deleted this very moment
        raise ModelMissing(param="model")
    return model, found


def fitting(services: Services, adapter: Model) -> list[str]:
    """Base models at hand whose shapes the adapter has, the likeliest first."""
    return _settler(services).fitting(adapter.account_id, adapter)


def _settler(services: Services) -> Settler:
    return Settler(services.database, services.blobs, services.bases)


def delete(services: Services, actor: Actor, name: str) -> str:
    """Returns its full name. Raises ModelMissing, or BadRequest when it is in use, saying where."""
    require(actor, Action.DELETE, own(actor, ResourceKind.MODEL))
    return delete_model(services.database, services.blobs, actor.account_id, name)


async def detach_and_delete(services: Services, actor: Actor, adapter: str) -> None:
    """Waits for the adapter's last requests. Raises LoradockError."""
    if await run_in_threadpool(adapters.place, services, actor, adapter) is not None:
        await adapters.detach_named(services, actor, adapter)
    deadline = time.monotonic() + _DRAIN_S
    while await run_in_threadpool(_drains, services, actor, adapter):
        if time.monotonic() > deadline:
            raise Unavailable(f"{adapter} is detached and still finishes requests; delete it when they have ended")
        await asyncio.sleep(_LOOK_S)
    await run_in_threadpool(delete, services, actor, adapter)


def find(services: Services, actor: Actor, name: str) -> ModelRecord | None:
    """Find a model that was uploaded; None where there is none of that name."""
    with services.database.session() as session:
        try:
            model = model_for(session, actor, Action.READ, name)
        except ModelMissing:
            return None
        return _record(session, model)


def index(services: Services, actor: Actor, kinds: Collection[ModelKind] = _ALL) -> list[ModelRecord]:
    """Newest first; those still uploading too."""
    require(actor, Action.READ, own(actor, ResourceKind.MODEL))
    with services.database.session() as session:
        found = list_models(session, actor.account_id)
        return [_record(session, model) for model in found if model.kind in kinds]


def job(services: Services, actor: Actor, job_id: str) -> JobRecord:
    """Raises NotFound."""
    with services.database.session() as session:
        return JobRecord.of(job_for(session, actor, job_id))


def jobs(services: Services, actor: Actor) -> list[JobRecord]:
    """Newest first."""
    require(actor, Action.READ, own(actor, ResourceKind.JOB))
    with services.database.session() as session:
        return [JobRecord.of(found) for found in list_jobs(session, actor.account_id)]


def _record(session: Session, model: Model) -> ModelRecord:
    return ModelRecord.of(model, where_attached(session, model))


def _lora_base(services: Services, actor: Actor, lora_model: str | None) -> str | None:
    """The base of the endpoint an upload shall be attached to."""
    if not lora_model:
        return None
    with services.database.session() as session:
        endpoint = endpoint_for(session, actor, Action.ATTACH, lora_model)
        check_target(endpoint)
        return endpoint.deployment.base_model


def _drains(services: Services, actor: Actor, adapter: str) -> bool:
    with services.database.session() as session:
        return is_held(session, find_adapter(session, actor.account_id, adapter))
