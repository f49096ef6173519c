"""Create, change, start, stop, delete and look at endpoints."""

from dataclasses import replace

from starlette.concurrency import run_in_threadpool

from loradock.control.views import ReplicaFacts
from loradock.endpoints import rules
from loradock.endpoints.rules import EndpointChange, NewEndpoint
from loradock.operations.access import endpoint_for, own, require
from loradock.operations.records import EndpointRecord
from loradock.operations.services import Services
from loradock.store.events import record
from loradock.types.access import Action, Actor, ResourceKind
from loradock.types.enums import DesiredState, EndpointKind, EngineKind
from loradock.types.errors import BadRequest
from loradock.types.extras import require_engine


def create(services: Services, actor: Actor, new: NewEndpoint) -> EndpointRecord:
    """Create an endpoint, PENDING, or STOPPED where that is desired. Raises BadRequest naming the field at fault."""
    require(actor, Action.CREATE, own(actor, ResourceKind.ENDPOINT))
    if new.engine is EngineKind.VLLM and services.settings.vllm_python is None:
        raise BadRequest(
            "this server has no vLLM: leave engine out, or start the server with --vllm-python", param="engine"
        )
    base = _checked_base(services, actor, new.model)
    vllm = services.settings.vllm_python is not None and _vllm_reads(services, actor, base)
    if new.engine is EngineKind.VLLM and not vllm:
        raise BadRequest(
            f"vLLM needs a base model in the Hugging Face format and {base} is a GGUF file here: leave engine out, or"
            " put its folder below the import root",
            param="engine",
        )
    if new.engine is EngineKind.EMBEDDED:
        require_engine("engine")
    with services.database.session() as session:
        endpoint = rules.create_endpoint(session, actor.account_id, actor.account, replace(new, model=base, vllm=vllm))
        record(session, actor.account_id, endpoint.id, "endpoint.created", f"{endpoint.name} was created")
        made = EndpointRecord.of(endpoint)
    services.controller.announce(made.deployment_id)
    return made


def update(services: Services, actor: Actor, reference: str, change: EndpointChange) -> EndpointRecord:
    """`reference` is an id or name. Raises EndpointMissing, BadRequest naming the field at fault."""
    with services.database.session(make_room=change.desired is DesiredState.STOPPED) as session:
        endpoint = endpoint_for(session, actor, Action.CHANGE, reference)
        rules.update_endpoint(session, endpoint, change)
        changed = ", ".join(change.given()) or "nothing"
        record(session, actor.account_id, endpoint.id, "endpoint.updated", f"changed: {changed}")
        changed_endpoint = EndpointRecord.of(endpoint)
    services.controller.wake(changed_endpoint.deployment_id)
    return changed_endpoint


def start(services: Services, actor: Actor, reference: str) -> EndpointRecord:
    """Raises EndpointMissing."""
    return update(services, actor, reference, EndpointChange(desired=DesiredState.STARTED))


def stop(services: Services, actor: Actor, reference: str) -> EndpointRecord:
    """Raises EndpointMissing."""
    return update(services, actor, reference, EndpointChange(desired=DesiredState.STOPPED))


async def delete(services: Services, actor: Actor, reference: str, *, detach: bool = False) -> None:
    """Delete it with its adapters if `detach`, else only if there are none. Raises EndpointMissing, BadRequest."""
    require(actor, Action.DELETE, own(actor, ResourceKind.ENDPOINT))
    await services.controller.delete_endpoint(actor.account_id, reference, detach=detach)


def get(services: Services, actor: Actor, reference: str) -> EndpointRecord:
    """Raises EndpointMissing."""
    with services.database.session() as session:
        return EndpointRecord.of(endpoint_for(session, actor, Action.READ, reference))


def index(services: Services, actor: Actor, kind: EndpointKind | None = None) -> list[EndpointRecord]:
    """Newest first."""
    require(actor, Action.READ, own(actor, ResourceKind.ENDPOINT))
    with services.database.session() as session:
        return [EndpointRecord.of(found) for found in rules.list_endpoints(session, actor.account_id, kind)]


async def replicas(services: Services, actor: Actor, reference: str) -> list[ReplicaFacts]:
    """Raises EndpointMissing."""
    endpoint = await run_in_threadpool(get, services, actor, reference)
    return await services.controller.replicas(endpoint.deployment_id)


async def logs(
    services: Services, actor: Actor, reference: str, replica: str | None, lines: int | None, after: int
) -> list[tuple[str, str, int]]:
    """(replica, text, offset of what comes next) of each, or of one. Raises EndpointMissing, NotFound."""
    endpoint = await run_in_threadpool(get, services, actor, reference)
    return await services.controller.logs(endpoint.deployment_id, replica, lines, after)


def _checked_base(services: Services, actor: Actor, model: str) -> str:
    with services.database.session() as session:
        base = rules.check_base_name(session, actor.account_id, model)
    services.bases.check(base, actor.account_id)
    return base


def _vllm_reads(services: Services, actor: Actor, base: str) -> bool:
    found = services.bases.find(base, actor.account_id)
    return found is None or found.path.suffix != ".gguf"
