"""/v1/models and /v1/jobs: what there is, and bringing more in."""

from fastapi import APIRouter, Request
from starlette.concurrency import run_in_threadpool

from loradock.api.listing import PageDep
from loradock.api.multipart import read_upload
from loradock.api.paths import decode_segment
from loradock.api.services import CallerDep, Services, ServicesDep
from loradock.api.unknown_fields import check_spelling, remarked, remarks
from loradock.api.v1.bodies import ChangeModel, UploadModel
from loradock.api.v1.views import Json, catalogue_item, job_view, model_view
from loradock.endpoints.attachments import check_target
from loradock.endpoints.rules import find_endpoint
from loradock.gateway.keys import Caller
from loradock.registry.jobs import get_job, list_jobs
from loradock.registry.models import delete_model, get_model, list_models, where_attached
from loradock.registry.settling import Settler
from loradock.registry.uploads.received import Received
from loradock.registry.uploads.upload_request import UploadRequest
from loradock.store.tables import now
from loradock.types.enums import JobStatus, ModelKind
from loradock.types.errors import BadRequest, ModelMissing

router = APIRouter(prefix="/v1")
_STARTED = int(now().timestamp())
_FORM_FIELDS = set(UploadModel.model_fields) - {"model_source", "hf_token"}


@router.get("/models", response_model=None)
def index(
    request: Request,
    caller: CallerDep,
    services: ServicesDep,
    page: PageDep,
    dedicated: bool = False,
    catalogue: bool = False,
    kind: ModelKind | None = None,
) -> list[Json] | Json:
    """Together's clients want the catalogue as a bare array, OpenAI's what can be called now as an object.

    `catalogue` (ours) gives the catalogue as an object to anyone.
    """
    if "Together" in request.headers.get("user-agent", ""):
        return page.of(_catalogue(services, caller, dedicated=dedicated, kind=kind))
    if catalogue:
        return page.listed(_catalogue(services, caller, dedicated=dedicated, kind=kind))
    names = services.routes.callable_names(caller.account_id)
    owned = "loradock"
    return page.listed([{"id": n, "object": "model", "created": _STARTED, "owned_by": owned} for n in names])


def _catalogue(services: Services, caller: Caller, *, dedicated: bool, kind: ModelKind | None) -> list[Json]:
    """Base models at hand and the account's own; `dedicated`: only what an endpoint can be created for."""
    with services.database.session() as session:
        own = [
            model_view(model, where_attached(session, model))
            for model in list_models(session, caller.account_id)
            if not (dedicated and model.kind is ModelKind.ADAPTER)
        ]
    known = {item["id"] for item in own}
    bases = [base.name for base in services.bases.at_hand(caller.account_id) if base.name not in known]
    shown = [*(catalogue_item(name, _STARTED, name.partition("/")[0]) for name in bases), *own]
    return [item for item in shown if kind in (None, item.get("kind", ModelKind.MODEL))]


@router.post("/models")
def upload(body: UploadModel, caller: CallerDep, services: ServicesDep) -> Json:
    request = UploadRequest(
        model_name=body.model_name,
        model_source=body.model_source,
        kind=body.model_type,
        base_model=body.base_model,
        lora_model=body.lora_model,
        lora_base=lora_base(services, caller.account_id, body.lora_model),
        hf_token=body.hf_token,
        description=body.description,
        subfolder=body.subfolder,
    )
    return remarked(_submit(services, caller, request, body.model_source), body.remarks())


def lora_base(services: Services, account_id: str, lora_model: str | None) -> str | None:
    """The base of the endpoint an upload shall be attached to. Raises the seed's errors for a wrong target."""
    if not lora_model:
        return None
    with services.database.session() as session:
        endpoint = find_endpoint(session, account_id, lora_model)
        check_target(endpoint)
        return endpoint.deployment.base_model


def _submit(services: Services, caller: Caller, request: UploadRequest, source: str) -> Json:
    job, model = services.uploads.submit(caller.account_id, request)
    data = {"job_id": job.id, "model_name": model.name, "model_id": model.id, "model_source": source}
    return {"data": data, "message": f"{model.name} is being uploaded; follow it with GET /v1/jobs/{job.id}"}


@router.post("/models/upload")
async def upload_files(request: Request, caller: CallerDep, services: ServicesDep) -> Json:
    """The files themselves, as multipart parts with file names, which are paths in the model's folder."""
    received = services.uploads.receive()
    try:
        fields = await read_upload(request.headers.get("content-type", ""), request.stream(), received)
        check_spelling(fields, _FORM_FIELDS)
        if received.is_empty or not fields.get("model_name"):
            raise BadRequest("send the field model_name and at least one file in the field files")
        upload = await run_in_threadpool(_upload_request, services, caller, fields, received)
    except BaseException:  # a client that leaves cancels this, too
        received.discard()
        raise
    answer = await run_in_threadpool(_submit, services, caller, upload, received.label)
    return remarked(answer, remarks(fields, _FORM_FIELDS))


def _upload_request(services: Services, caller: Caller, fields: dict[str, str], received: Received) -> UploadRequest:
    lora_model, kind = fields.get("lora_model") or None, fields.get("model_type")
    return UploadRequest(
        model_name=fields["model_name"],
        received=received,
        kind=ModelKind(kind) if kind else None,
        base_model=fields.get("base_model") or None,
        lora_model=lora_model,
        lora_base=lora_base(services, caller.account_id, lora_model),
        description=fields.get("description"),
        subfolder=fields.get("subfolder") or None,
    )


@router.get("/models/{name:path}")
def retrieve(name: str, caller: CallerDep, services: ServicesDep) -> Json:
    """An own model, or a base model at hand."""
    wanted = decode_segment(name)
    with services.database.session() as session:
        model = get_model(session, caller.account_id, wanted)
        if model is not None:
            return {**model_view(model, where_attached(session, model)), "owned_by": model.account.slug}
    if wanted in services.routes.callable_names(caller.account_id) or services.bases.find(wanted, caller.account_id):
        return {**catalogue_item(wanted, _STARTED, wanted.partition("/")[0]), "owned_by": "loradock"}
    raise ModelMissing(param="model")


@router.patch("/models/{name:path}")
def change(name: str, body: ChangeModel, caller: CallerDep, services: ServicesDep) -> Json:
    """Say of an adapter that it is for another base model, without another upload; `message` tells what was found."""
    wanted, settler = decode_segment(name), Settler(services.database, services.blobs, services.bases)
    found = settler.change_base(caller.account_id, wanted, body.base_model)
    with services.database.session() as session:
        model = get_model(session, caller.account_id, wanted)
        if model is None:  # deleted this very moment
            raise ModelMissing(param="model")
        view = {**model_view(model, where_attached(session, model)), "message": found}
        return remarked(view, body.remarks())


@router.delete("/models/{name:path}")
def delete(name: str, caller: CallerDep, services: ServicesDep) -> Json:
    return {
        "id": delete_model(services.database, services.blobs, caller.account_id, decode_segment(name)),
        "deleted": True,
    }


@router.get("/jobs")
def jobs(caller: CallerDep, services: ServicesDep, page: PageDep, status: JobStatus | None = None) -> Json:
    """Newest first."""
    with services.database.session() as session:
        found = list_jobs(session, caller.account_id)
        return page.listed([job_view(job) for job in found if status in (None, job.status)])


@router.get("/jobs/{job_id}")
def job(job_id: str, caller: CallerDep, services: ServicesDep) -> Json:
    with services.database.session() as session:
        return job_view(get_job(session, caller.account_id, job_id))
