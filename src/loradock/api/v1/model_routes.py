"""/v1/models and /v1/jobs: what there is, and bringing more in."""

from fastapi import APIRouter, Request
from starlette.concurrency import run_in_threadpool

from loradock.api.listing import Listed, PageDep
from loradock.api.multipart import read_upload
from loradock.api.paths import decode_segment
from loradock.api.services import ActorDep, ServicesDep
from loradock.api.unknown_fields import check_spelling, remarked, remarks
from loradock.api.v1.answers import CallableModel, Deleted, JobItem, ModelAnswer, ModelItem, UploadAnswer
from loradock.api.v1.bodies import ChangeModel, UploadModel
from loradock.api.v1.views import catalogue_item, job_view, model_answer, model_view
from loradock.operations import models
from loradock.operations.records import JobRecord
from loradock.operations.services import Services
from loradock.registry.uploads.received import Received
from loradock.registry.uploads.upload_request import UploadRequest
from loradock.store.tables import now
from loradock.types.access import Actor
from loradock.types.enums import JobStatus, ModelKind
from loradock.types.errors import BadRequest, ModelMissing

router = APIRouter(prefix="/v1")
_STARTED = int(now().timestamp())
_FORM_FIELDS = set(UploadModel.model_fields) - {"model_source", "hf_token"}
_MODELS = list[ModelItem] | Listed[ModelItem] | Listed[CallableModel]


@router.get("/models", response_model=None, responses={200: {"model": _MODELS}})
def index(
    request: Request,
    actor: ActorDep,
    services: ServicesDep,
    page: PageDep,
    dedicated: bool = False,
    catalogue: bool = False,
    kind: ModelKind | None = None,
) -> _MODELS:
    """Together's clients want the catalogue as a bare array, OpenAI's what can be called now as an object.

    `catalogue` (ours) gives the catalogue as an object to anyone.
    """
    if "Together" in request.headers.get("user-agent", ""):
        return page.of(_catalogue(services, actor, dedicated=dedicated, kind=kind))
    if catalogue:
        return page.listed(_catalogue(services, actor, dedicated=dedicated, kind=kind))
    names = services.routes.callable_names(actor)
    return page.listed([CallableModel(id=n, object="model", created=_STARTED, owned_by="loradock") for n in names])


def _catalogue(services: Services, actor: Actor, *, dedicated: bool, kind: ModelKind | None) -> list[ModelItem]:
    """Base models at hand and the account's own; `dedicated`: only what an endpoint can be created for."""
    kinds = (ModelKind.MODEL,) if dedicated else tuple(ModelKind)
    own = [model_view(model) for model in models.index(services, actor, kinds)]
    known = {item["id"] for item in own}
    bases = [base.name for base in services.bases.at_hand(actor.account_id) if base.name not in known]
    shown = [*(catalogue_item(name, _STARTED, name.partition("/")[0]) for name in bases), *own]
    return [item for item in shown if kind in (None, item.get("kind", ModelKind.MODEL))]


@router.post("/models")
def upload(body: UploadModel, actor: ActorDep, services: ServicesDep) -> UploadAnswer:
    job = models.upload(services, actor, body.request())
    return remarked(_submitted(job, body.model_source), body.remarks())


def _submitted(job: JobRecord, source: str) -> UploadAnswer:
    return {
        "data": {
            "job_id": job.id,
            "model_name": job.model_name,
            "model_id": job.model_id,
            "model_source": source,
        },
        "message": f"{job.model_name} is being uploaded; follow it with GET /v1/jobs/{job.id}",
    }


@router.post("/models/upload")
async def upload_files(request: Request, actor: ActorDep, services: ServicesDep) -> UploadAnswer:
    """The files themselves, as multipart parts with file names, which are paths in the model's folder."""
    with models.receive(services, actor) as received:  # also left when the client leaves, which cancels this
        fields = await read_upload(request.headers.get("content-type", ""), request.stream(), received)
        check_spelling(fields, _FORM_FIELDS)
        if received.is_empty or not fields.get("model_name"):
            raise BadRequest("send the field model_name and at least one file in the field files")
        job = await run_in_threadpool(models.upload, services, actor, _upload_request(fields, received))
    return remarked(_submitted(job, received.label), remarks(fields, _FORM_FIELDS))


def _upload_request(fields: dict[str, str], received: Received) -> UploadRequest:
    kind = fields.get("model_type")
    return UploadRequest(
        model_name=fields["model_name"],
        received=received,
        kind=ModelKind(kind) if kind else None,
        base_model=fields.get("base_model") or None,
        lora_model=fields.get("lora_model") or None,
        description=fields.get("description"),
        subfolder=fields.get("subfolder") or None,
    )


@router.get("/models/{name:path}")
def retrieve(name: str, actor: ActorDep, services: ServicesDep) -> ModelAnswer:
    """An own model, or a base model at hand."""
    wanted = decode_segment(name)
    if (model := models.find(services, actor, wanted)) is not None:
        return model_answer(model_view(model), owned_by=model.owner)
    if wanted in services.routes.callable_names(actor) or services.bases.find(wanted, actor.account_id):
        return model_answer(catalogue_item(wanted, _STARTED, wanted.partition("/")[0]), owned_by="loradock")
    raise ModelMissing(param="model")


@router.patch("/models/{name:path}")
def change(name: str, body: ChangeModel, actor: ActorDep, services: ServicesDep) -> ModelAnswer:
    """Say of an adapter that it is for another base model, without another upload; `message` tells what was found."""
    model, found = models.change_base(services, actor, decode_segment(name), body.base_model)
    return remarked(model_answer(model_view(model), message=found), body.remarks())


@router.delete("/models/{name:path}")
def delete(name: str, actor: ActorDep, services: ServicesDep) -> Deleted:
    return {"id": models.delete(services, actor, decode_segment(name)), "deleted": True}


@router.get("/jobs")
def jobs(actor: ActorDep, services: ServicesDep, page: PageDep, status: JobStatus | None = None) -> Listed[JobItem]:
    """Newest first."""
    return page.listed([job_view(job) for job in models.jobs(services, actor) if status in (None, job.status)])


@router.get("/jobs/{job_id}")
def job(job_id: str, actor: ActorDep, services: ServicesDep) -> JobItem:
    return job_view(models.job(services, actor, job_id))
