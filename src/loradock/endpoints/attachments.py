"""Decides which adapter may be attached where: the database side of attach and detach."""

from sqlalchemy import bindparam, or_, select
from sqlalchemy.orm import Session, selectinload

from loradock.endpoints.rules import find_endpoint
from loradock.store.models import BEST_FIRST, OWN, find_model
from loradock.store.tables import Attachment, Deployment, Endpoint, Model
from loradock.types.enums import AttachmentState, EndpointKind, EndpointState, ModelKind, ModelState, Visibility
from loradock.types.errors import (
    AlreadyBound,
    BadRequest,
    BaseModelMismatch,
    EndpointNameMismatch,
    LoraDisabled,
    ModelMissing,
    NotBound,
    NotDedicated,
    PublicEndpoint,
)
from loradock.types.names import same_base_model, split_combined_id

_ENDPOINT_NAME = (
    select(Endpoint.name)
    .where(Endpoint.account_id == bindparam("account"))
    .where(or_(Endpoint.id == bindparam("endpoint"), Endpoint.name == bindparam("endpoint")))
    .scalar_subquery()
)
_PAIR = select(Model.name, _ENDPOINT_NAME).where(OWN, Model.kind == ModelKind.ADAPTER).order_by(*BEST_FIRST)
_ATTACHMENTS = select(Attachment).where(Attachment.model_id == bindparam("adapter"))


def resolve_pair(session: Session, account_id: str, endpoint_ref: str, model_id: str) -> tuple[Endpoint, Model]:
    """The endpoint of the URL and the adapter of the combined id, both of this account.

    Raises BadCombinedId, EndpointMissing, EndpointNameMismatch, ModelMissing.
    """
    named, adapter = split_combined_id(model_id)
    endpoint = find_endpoint(session, account_id, endpoint_ref)
    if named != endpoint.name:
        raise EndpointNameMismatch(param="model_id")
    return endpoint, find_adapter(session, account_id, adapter)


def adapter_name(session: Session, account_id: str, endpoint_ref: str, model_id: str) -> str:
    """The full name of the adapter that `resolve_pair` finds, quickly; raises what it raises."""
    named, name = split_combined_id(model_id)
    found = session.execute(_PAIR, {"account": account_id, "name": name, "endpoint": endpoint_ref}).first()
    if found is not None and found[1] == named:
        return str(found[0])
    return resolve_pair(session, account_id, endpoint_ref, model_id)[1].name


def find_adapter(session: Session, account_id: str, name: str) -> Model:
    """An adapter of the account by name, with or without the account in front, or by id. Raises ModelMissing."""
    model = find_model(session, account_id, name)
    if model is None or model.kind is not ModelKind.ADAPTER:
        raise ModelMissing(param="model_id")
    return model


def check_target(endpoint: Endpoint) -> None:
    """Whether adapters may be attached here at all. Raises NotDedicated, PublicEndpoint, LoraDisabled."""
    if endpoint.kind is not EndpointKind.DEDICATED:
        raise NotDedicated
    if endpoint.visibility is Visibility.PUBLIC:
        raise PublicEndpoint
    if not endpoint.deployment.lora_enabled:
        raise LoraDisabled


def deploy_targets(session: Session, adapter: Model) -> list[Endpoint]:
    """The running, LoRA-enabled, private dedicated endpoints of its account that run its base model, newest first."""
    query = (
        select(Endpoint)
        .join(Deployment)
        .where(
            Endpoint.account_id == adapter.account_id,
            Endpoint.kind == EndpointKind.DEDICATED,
            Endpoint.visibility == Visibility.PRIVATE,
            Deployment.lora_enabled,
            Deployment.state == EndpointState.STARTED,
        )
    )
    query = query.order_by(Endpoint.created_at.desc()).options(selectinload(Endpoint.deployments))
    running = session.scalars(query)
    return [endpoint for endpoint in running if same_base(adapter.base_model, endpoint.deployment.base_model)]


def may_take_adapters(endpoint: Endpoint) -> bool:
    """Whether check_target would let it pass."""
    try:
        check_target(endpoint)
    except BadRequest:
        return False
    return True


def check_attachable(session: Session, endpoint: Endpoint, adapter: Model) -> Attachment | None:
    """The attachment that binds the two already, or is still draining away; None when a new one is to be made.

    Raises BadRequest, BaseModelMismatch, AlreadyBound and what check_target raises.
    """
    check_target(endpoint)
    if adapter.state is not ModelState.READY or not adapter.revisions:
        raise BadRequest(
            f"{adapter.name} is still being uploaded; follow its job with GET /v1/jobs/<job id>", param="model_id"
        )
    if not same_base(adapter.base_model, endpoint.deployment.base_model):
        raise BaseModelMismatch(param="model_id", detail=_other_base(adapter, endpoint))
    rows = list(session.scalars(_ATTACHMENTS, {"adapter": adapter.id}))
    # At most one is not draining away: first, if it is there.
    rows.sort(key=lambda row: row.state is AttachmentState.DETACHING)
    here = [row for row in rows if row.deployment_id == endpoint.deployment.id]
    if rows and rows[0].state is not AttachmentState.DETACHING and rows[0] not in here:
        raise AlreadyBound(param="model_id")
    return here[0] if here else None


def _other_base(adapter: Model, endpoint: Endpoint) -> str:
    runs = endpoint.deployment.base_model
    return (
        f"{adapter.name} is for {adapter.base_model or 'no base model that it names'}, {endpoint.name} runs {runs}. If"
        f" it was trained on {runs} or a copy of it, say so: loradock models update {adapter.name} --base-model {runs}"
        f" (PATCH /v1/models/{adapter.name} with base_model); else create an endpoint for its own base model"
    )


def same_base(one: str | None, other: str) -> bool:
    return one is not None and same_base_model(one, other)


def binding(session: Session, adapter: Model) -> Attachment | None:
    """The attachment that holds the adapter now; one that is draining away does not count."""
    query = select(Attachment).where(Attachment.model_id == adapter.id, Attachment.state != AttachmentState.DETACHING)
    return session.scalar(query)


def check_detachable(session: Session, endpoint: Endpoint, adapter: Model) -> Attachment:
    """The attachment to remove. Raises NotBound."""
    bound = binding(session, adapter)
    if bound is None or bound.deployment_id != endpoint.deployment.id:
        raise NotBound(param="model_id")
    return bound
