"""Creating and changing endpoints, whoever asks: the API's routes or the dashboard's pages."""

from loradock.api.services import Services
from loradock.api.v1.bodies import CreateEndpoint, UpdateEndpoint
from loradock.api.v1.views import Json, endpoint_view
from loradock.endpoints import rules
from loradock.gateway.keys import Caller
from loradock.store.events import record
from loradock.types.enums import DesiredState, EndpointKind, EngineKind, Visibility
from loradock.types.errors import BadRequest
from loradock.types.extras import require_engine


def create(services: Services, caller: Caller, body: CreateEndpoint, zone: str | None = None) -> Json:
    """The endpoint as the API shows it. Raises BadRequest naming the field at fault."""
    if body.engine is EngineKind.VLLM and services.settings.vllm_python is None:
        raise BadRequest(
            "this server has no vLLM: leave engine out, or start the server with --vllm-python", param="engine"
        )
    base = _checked_base(services, caller, body.model)
    vllm = services.settings.vllm_python is not None and _vllm_reads(services, caller, base)
    if body.engine is EngineKind.VLLM and not vllm:
        raise BadRequest(
            f"vLLM needs a base model in the Hugging Face format and {base} is a GGUF file here: leave engine out, or"
            " put its folder below the import root",
            param="engine",
        )
    new = _wanted(body, base, zone, vllm=vllm)
    if new.engine is EngineKind.EMBEDDED:
        require_engine("engine")
    with services.database.session() as session:
        endpoint = rules.create_endpoint(session, caller.account_id, caller.account, new)
        record(session, caller.account_id, endpoint.id, "endpoint.created", f"{endpoint.name} was created")
        view, deployment = endpoint_view(endpoint, services.settings.quantization), endpoint.deployment.id
    services.controller.announce(deployment)
    return view


def update(services: Services, caller: Caller, reference: str, body: UpdateEndpoint) -> Json:
    """`reference` is an id or name. Raises EndpointMissing, BadRequest naming the field at fault."""
    with services.database.session(make_room=body.state is DesiredState.STOPPED) as session:
        endpoint = rules.find_endpoint(session, caller.account_id, reference)
        rules.update_endpoint(session, endpoint, _change(body))
        changed = ", ".join(body.given()) or "nothing"
        record(session, caller.account_id, endpoint.id, "endpoint.updated", f"changed: {changed}")
        view, deployment = endpoint_view(endpoint, services.settings.quantization), endpoint.deployment.id
    services.controller.wake(deployment)
    return view


def _vllm_reads(services: Services, caller: Caller, base: str) -> bool:
    found = services.bases.find(base, caller.account_id)
    return found is None or found.path.suffix != ".gguf"


def _wanted(body: CreateEndpoint, base: str, zone: str | None, *, vllm: bool) -> rules.NewEndpoint:
    return rules.NewEndpoint(
        model=base,
        hardware=body.hardware or "",
        min_replicas=body.autoscaling.min_replicas,
        max_replicas=body.autoscaling.max_replicas,
        display_name=body.display_name,
        inactive_timeout=body.inactive_timeout,
        availability_zone=body.availability_zone or zone,
        lora_enabled=body.lora_enabled is not False,
        max_lora_rank=rules.DEFAULT_LORA_RANK if body.max_lora_rank is None else body.max_lora_rank,
        engine=body.engine,
        vllm=vllm,
        auto_start=body.auto_start is True,
        quantization=body.quantization,
        desired=body.state or DesiredState.STARTED,
        kind=body.type or EndpointKind.DEDICATED,
        visibility=body.visibility or Visibility.PRIVATE,
    )


def _change(body: UpdateEndpoint) -> rules.EndpointChange:
    return rules.EndpointChange(
        display_name=body.display_name,
        min_replicas=body.autoscaling.min_replicas if body.autoscaling else None,
        max_replicas=body.autoscaling.max_replicas if body.autoscaling else None,
        inactive_timeout=body.new_timeout,
        lora_enabled=body.lora_enabled,
        max_lora_rank=body.max_lora_rank,
        auto_start=body.auto_start,
        quantization=body.quantization,
        desired=body.state,
    )


def _checked_base(services: Services, caller: Caller, model: str) -> str:
    with services.database.session() as session:
        base = rules.check_base_name(session, caller.account_id, caller.account, model)
    services.bases.check(base, caller.account_id)
    return base
