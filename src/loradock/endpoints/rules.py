"""The rules of what is allowed for endpoints and their deployments, on a database session."""

from dataclasses import dataclass, fields

from sqlalchemy import bindparam, or_, select
from sqlalchemy.orm import Session, joinedload, selectinload

from loradock.endpoints.hardware import check_zone, choose_hardware
from loradock.store.events import record
from loradock.store.models import find_model
from loradock.store.tables import Attachment, Deployment, Endpoint, Model
from loradock.types.enums import (
    AttachmentState,
    DesiredState,
    EndpointKind,
    EndpointQuantization,
    EndpointState,
    EngineKind,
    ModelKind,
    Visibility,
)
from loradock.types.errors import BadRequest, EndpointMissing
from loradock.types.names import endpoint_name, new_endpoint_id, new_id, without_lora_suffix

MAX_REPLICAS = 64
MAX_TIMEOUT_MINUTES = 366 * 24 * 60
DEFAULT_LORA_RANK = 64
MAX_LORA_RANK = 512
_NAMED = or_(Endpoint.id == bindparam("reference"), Endpoint.name == bindparam("reference"))
_FIND = (
    select(Endpoint)
    .where(Endpoint.account_id == bindparam("account"), _NAMED)
    .options(joinedload(Endpoint.deployments))
)


@dataclass(frozen=True)
class NewEndpoint:
    """A checked-for-type request to create; the rules check the rest. `engine` None: by the hardware; `vllm`: whether
    vLLM can be started here."""

    model: str
    hardware: str = ""
    min_replicas: int = 1
    max_replicas: int = 1
    display_name: str | None = None
    inactive_timeout: int | None = None
    availability_zone: str | None = None
    lora_enabled: bool = True
    max_lora_rank: int = DEFAULT_LORA_RANK
    engine: EngineKind | None = None
    vllm: bool = False
    auto_start: bool = False
    quantization: EndpointQuantization | None = None
    desired: DesiredState = DesiredState.STARTED
    kind: EndpointKind = EndpointKind.DEDICATED
    visibility: Visibility = Visibility.PRIVATE


@dataclass(frozen=True)
class EndpointChange:
    """None leaves a setting as it is; an inactive timeout of 0 switches it off."""

    display_name: str | None = None
    min_replicas: int | None = None
    max_replicas: int | None = None
    inactive_timeout: int | None = None
    lora_enabled: bool | None = None
    max_lora_rank: int | None = None
    auto_start: bool | None = None
    quantization: EndpointQuantization | None = None
    desired: DesiredState | None = None

    def given(self) -> list[str]:
        """Return what is to be changed, as the API calls it."""
        called = {"min_replicas": "autoscaling", "max_replicas": "autoscaling", "desired": "state"}
        names = (each.name for each in fields(self) if getattr(self, each.name) is not None)
        return sorted({called.get(name, name) for name in names})


def find_endpoint(session: Session, account_id: str, reference: str) -> Endpoint:
    """The account's endpoint by id or name. Raises EndpointMissing, also for another account's."""
    found = session.scalars(_FIND, {"account": account_id, "reference": reference}).unique().first()
    if found is None:
        raise EndpointMissing
    return found


def list_endpoints(session: Session, account_id: str, kind: EndpointKind | None = None) -> list[Endpoint]:
    query = select(Endpoint).where(Endpoint.account_id == account_id).order_by(Endpoint.created_at.desc())
    query = query.options(selectinload(Endpoint.deployments))
    return list(session.scalars(query.where(Endpoint.kind == kind) if kind else query))


def check_base_name(session: Session, account_id: str, model: str) -> str:
    """The base model's full name without a `-lora` suffix; an own model's may come without the account.

    Raises BadRequest when it is one of the account's adapters.
    """
    own = find_model(session, account_id, model)
    if own is not None and own.kind is ModelKind.ADAPTER:
        raise BadRequest(
            f"{own.name} is an adapter. Create an endpoint for its base model {own.base_model}, then attach it:"
            f" POST /v1/endpoints/<endpoint id>/adapters",
            param="model",
        )
    return own.name if own is not None else without_lora_suffix(model)


def create_endpoint(session: Session, account_id: str, account: str, new: NewEndpoint) -> Endpoint:
    """`new.model` must have been checked against the base models. Raises BadRequest."""
    check_replicas(new.min_replicas, new.max_replicas)
    name = endpoint_name(account, new.model.removeprefix(f"{account}/"))
    hardware, engine = choose_hardware(new.hardware, new.engine, vllm=new.vllm)
    deployment = Deployment(
        id=new_id("dep"),
        base_model=new.model,
        hardware=hardware,
        availability_zone=check_zone(new.availability_zone),
        min_replicas=new.min_replicas,
        max_replicas=new.max_replicas,
        inactive_timeout=check_timeout(new.inactive_timeout),
        lora_enabled=new.lora_enabled,
        max_lora_rank=check_rank(new.max_lora_rank),
        engine=engine,
        auto_start=new.auto_start,
        quantization=check_quantization(new.quantization, engine),
        desired=new.desired,
        state=EndpointState.PENDING if new.desired is DesiredState.STARTED else EndpointState.STOPPED,
    )
    endpoint = Endpoint(
        id=new_endpoint_id(),
        account_id=account_id,
        name=name,
        display_name=check_display_name(new.display_name) or name,
        kind=new.kind,
        visibility=new.visibility,
        deployments=[deployment],
    )
    session.add(endpoint)
    session.flush()
    return endpoint


def update_endpoint(session: Session, endpoint: Endpoint, change: EndpointChange) -> None:
    """Raises BadRequest, changing nothing."""
    deployment = endpoint.deployment
    low = deployment.min_replicas if change.min_replicas is None else change.min_replicas
    high = deployment.max_replicas if change.max_replicas is None else change.max_replicas
    check_replicas(low, high)
    timeout = check_timeout(change.inactive_timeout)
    check_lora_change(endpoint, change)
    check_quantization(change.quantization, deployment.engine)
    deployment.min_replicas = low
    deployment.max_replicas = high
    if change.inactive_timeout is not None:
        deployment.inactive_timeout = timeout
    if change.lora_enabled is not None:
        deployment.lora_enabled = change.lora_enabled
    if change.max_lora_rank is not None:
        deployment.max_lora_rank = change.max_lora_rank
    if change.auto_start is not None:
        deployment.auto_start = change.auto_start
    if change.quantization is not None:
        deployment.quantization = change.quantization
    if change.display_name is not None:
        endpoint.display_name = check_display_name(change.display_name) or endpoint.name
    if change.desired is not None:
        _ask(session, endpoint, change.desired)
    session.flush()


def _ask(session: Session, endpoint: Endpoint, desired: DesiredState) -> None:
    deployment = endpoint.deployment
    before = deployment.desired, deployment.state
    set_desired(deployment, desired)
    if (deployment.desired, deployment.state) != before:
        verb = "start" if desired is DesiredState.STARTED else "stop"
        record(session, endpoint.account_id, endpoint.id, f"endpoint.{verb}", f"asked to {verb}")


def set_desired(deployment: Deployment, desired: DesiredState) -> None:
    """Asking for what is already so changes nothing; starting after an error tries again."""
    resting = (EndpointState.STOPPED, EndpointState.ERROR, EndpointState.STOPPING)
    if desired is DesiredState.STARTED and deployment.state in resting:
        deployment.state = EndpointState.PENDING
        deployment.message = None
    if desired is DesiredState.STOPPED and deployment.state is not EndpointState.STOPPED:
        deployment.state = EndpointState.STOPPING
        deployment.message = None
    deployment.desired = desired


def check_deletable(endpoint: Endpoint) -> None:
    """Raises BadRequest naming the adapters that are still attached."""
    names = [a.model.name for a in endpoint.deployment.attachments if a.state is not AttachmentState.DETACHING]
    if names:
        shown = ", ".join(sorted(names)[:10]) + " …" * (len(names) > 10)
        raise BadRequest(
            f"{endpoint.name} still has {len(names)} adapter{'s' * (len(names) > 1)} attached: {shown}. Detach them"
            f" first (loradock endpoints adapters detach {endpoint.id} --all),"
            f" or delete it with them: loradock endpoints delete {endpoint.id} --detach"
        )


def attached_names(session: Session, endpoint: Endpoint) -> list[str]:
    """The adapters whose attachment to the endpoint is complete, oldest first."""
    query = select(Model.name).join(Attachment, Attachment.model_id == Model.id)
    query = query.where(
        Attachment.deployment_id == endpoint.deployment.id, Attachment.state == AttachmentState.ATTACHED
    )
    return list(session.scalars(query.order_by(Attachment.created_at)))


def check_replicas(low: int, high: int) -> None:
    if low < 1:
        raise BadRequest(
            f"min_replicas is {low}: give at least 1 (to stop an endpoint, set its state to STOPPED)",
            param="autoscaling",
        )
    if low > high:
        raise BadRequest(
            f"min_replicas {low} is above max_replicas {high}: raise the one or lower the other", param="autoscaling"
        )
    if high > MAX_REPLICAS:
        raise BadRequest(f"max_replicas {high} is above the limit of {MAX_REPLICAS}", param="autoscaling")


def check_rank(rank: int) -> int:
    if not 1 <= rank <= MAX_LORA_RANK:
        raise BadRequest(f"max_lora_rank is {rank}: give 1 to {MAX_LORA_RANK}", param="max_lora_rank")
    return rank


def check_quantization(asked: EndpointQuantization | None, engine: EngineKind) -> EndpointQuantization | None:
    if asked is not None and engine is EngineKind.VLLM:
        raise BadRequest(
            "quantization is for the built-in engine, and this endpoint runs on vLLM: leave it out (for vLLM there is"
            " serve --vllm-args)",
            param="quantization",
        )
    return asked


def check_lora_change(endpoint: Endpoint, change: EndpointChange) -> None:
    """Check that what is attached will still be served. Raises BadRequest."""
    bound = [a for a in endpoint.deployment.attachments if a.state is not AttachmentState.DETACHING]
    if change.lora_enabled is False and bound:
        raise BadRequest(
            f"{len(bound)} adapters are attached: remove them before switching LoRA off", param="lora_enabled"
        )
    if change.max_lora_rank is None:
        return
    highest = max((a.revision.rank or 0 for a in bound), default=0)
    if check_rank(change.max_lora_rank) < highest:
        raise BadRequest(
            f"an attached adapter has rank {highest}: give at least that, not {change.max_lora_rank}",
            param="max_lora_rank",
        )


def check_timeout(minutes: int | None) -> int | None:
    """0 and None both mean never."""
    if minutes is not None and minutes < 0:
        raise BadRequest(f"inactive_timeout is {minutes}: give minutes, or 0 for never", param="inactive_timeout")
    if minutes is not None and minutes > MAX_TIMEOUT_MINUTES:
        raise BadRequest(
            f"inactive_timeout is {minutes}: give at most {MAX_TIMEOUT_MINUTES} minutes, or 0 for never",
            param="inactive_timeout",
        )
    return minutes or None


def check_display_name(name: str | None) -> str | None:
    if name is not None and len(name) > 200:
        raise BadRequest(f"display_name has {len(name)} characters: give at most 200", param="display_name")
    return name
