"""The request of a client for an upload, and the rows that stand for it from then on."""

from dataclasses import dataclass, field

from sqlalchemy import select
from sqlalchemy.orm import Session

from loradock.registry.jobs import update
from loradock.registry.uploads.received import Received
from loradock.store.tables import Account, Job, Model
from loradock.types.enums import JobStatus, ModelKind
from loradock.types.errors import BadRequest
from loradock.types.names import adapter_name, is_base_name, new_id, new_job_id, without_lora_suffix

_MAX_DESCRIPTION = 2000


@dataclass(frozen=True)
class UploadRequest:
    """`model_source` or `received`, never both. `lora_model` names an endpoint to attach to afterwards and
    `lora_base` the base model it runs; the caller has checked that it may be attached to."""

    model_name: str
    model_source: str | None = None
    received: Received | None = field(default=None, repr=False)
    kind: ModelKind | None = None
    base_model: str | None = None
    lora_model: str | None = None
    lora_base: str | None = None
    hf_token: str | None = field(default=None, repr=False)
    description: str | None = None
    subfolder: str | None = None
    """The folder of the source in which the model lies, if that has to be said."""

    @property
    def wanted_base(self) -> str | None:
        """The base model the request itself names. Raises BadRequest when it is not a name."""
        base = self.base_model or self.lora_base
        if base is None:
            return None
        if not is_base_name(base):
            raise BadRequest(
                f"base_model {base!r} is not a valid model name: give one like Org/Model", param="base_model"
            )
        return without_lora_suffix(base)

    @property
    def expected_kind(self) -> ModelKind:
        """The kind shown until the files have been seen."""
        adapter = self.base_model or self.lora_model
        return self.kind or (ModelKind.ADAPTER if adapter else ModelKind.MODEL)


def open_upload(session: Session, account_id: str, request: UploadRequest, label: str) -> tuple[Job, Model]:
    """A queued job and the model that holds the name meanwhile. Raises BadRequest."""
    account = session.get_one(Account, account_id)
    name = adapter_name(account.slug, request.model_name)
    _check_request(session, name, request)
    kind = request.expected_kind
    model = Model(
        id=new_id("ml"),
        account_id=account_id,
        name=name,
        kind=kind,
        base_model=request.wanted_base,
        description=request.description,
    )
    job = Job(
        id=new_job_id(),
        account_id=account_id,
        type=f"{kind.value}_upload",
        status=JobStatus.QUEUED,
        status_updates=[update(JobStatus.QUEUED, "waiting for its turn")],
        args=_args(request, name, label),
        model_id=model.id,
    )
    session.add_all([model, job])
    session.flush()
    return job, model


def _args(request: UploadRequest, name: str, label: str) -> dict[str, str]:
    """The job's public arguments, in the v1 API's camelCase; the hub token is not among them."""
    shown = {
        "description": request.description,
        "modelName": name,
        "modelSource": label,
        "loraModel": request.lora_model,
    }
    return {key: value for key, value in shown.items() if value is not None}


def _check_request(session: Session, name: str, request: UploadRequest) -> None:
    if (request.model_source is None) == (request.received is None):
        raise BadRequest("give either model_source or the files themselves", param="model_source")
    if request.kind is ModelKind.MODEL and request.lora_model:
        raise BadRequest("lora_model is for adapters: leave it out, or set model_type adapter", param="lora_model")
    if request.kind is ModelKind.MODEL and request.base_model:
        raise BadRequest("base_model is for adapters: leave it out, or set model_type adapter", param="base_model")
    if len(request.description or "") > _MAX_DESCRIPTION:
        raise BadRequest(f"description is longer than {_MAX_DESCRIPTION} characters", param="description")
    if session.scalar(select(Model.id).where(Model.name == name)) is not None:
        raise NameUsed(name=name, param="model_name")


class NameUsed(BadRequest):
    """model_name {name!r} is already used: choose another, or free it with: loradock models delete {name}"""
