"""Attach adapters to endpoints, and detach them."""

from starlette.concurrency import run_in_threadpool

from loradock.endpoints.attachments import binding, find_adapter
from loradock.endpoints.rules import attached_names
from loradock.operations.access import endpoint_for, own, require
from loradock.operations.records import EndpointRecord
from loradock.operations.services import Services
from loradock.types.access import Action, Actor, ResourceKind
from loradock.types.errors import NotBound
from loradock.types.names import combined_id, split_combined_id


async def attach(services: Services, actor: Actor, endpoint: str, model_id: str) -> str:
    """`endpoint` is an id or name, `model_id` the combined id. Returns the combined id with the adapter's full name,
    once the adapter answers. Raises LoradockError, with the step that failed; then nothing has changed."""
    require(actor, Action.ATTACH, own(actor, ResourceKind.ENDPOINT))
    adapter = await services.controller.attach(actor.account_id, endpoint, model_id)
    return combined_id(split_combined_id(model_id)[0], adapter)


async def detach(services: Services, actor: Actor, endpoint: str, model_id: str) -> str:
    """Returns the combined id once no new request reaches the adapter; running ones finish. Raises LoradockError."""
    require(actor, Action.DETACH, own(actor, ResourceKind.ENDPOINT))
    adapter = await services.controller.detach(actor.account_id, endpoint, model_id)
    return combined_id(split_combined_id(model_id)[0], adapter)


async def attach_named(services: Services, actor: Actor, endpoint: str, adapter: str) -> None:
    """Attach by the adapter's own name. Raises LoradockError."""
    require(actor, Action.ATTACH, own(actor, ResourceKind.ENDPOINT))
    await services.controller.attach_by_name(actor.account_id, adapter, endpoint)


async def detach_named(services: Services, actor: Actor, adapter: str, endpoint: str | None = None) -> None:
    """Detach from the endpoint of that id, else from wherever it is attached. Raises LoradockError."""
    found = await run_in_threadpool(place, services, actor, adapter)
    if found is None or endpoint not in (None, found[0]):
        raise NotBound(param="model_id")
    await detach(services, actor, found[0], combined_id(found[1], adapter))


def place(services: Services, actor: Actor, adapter: str) -> tuple[str, str] | None:
    """(id, name) of the endpoint that it is attached to. Raises ModelMissing."""
    require(actor, Action.READ, own(actor, ResourceKind.MODEL))
    with services.database.session() as session:
        bound = binding(session, find_adapter(session, actor.account_id, adapter))
        return (bound.deployment.endpoint.id, bound.deployment.endpoint.name) if bound else None


def index(services: Services, actor: Actor, endpoint: str) -> tuple[EndpointRecord, list[str]]:
    """The endpoint, and the names of the adapters that are attached to it, oldest first. Raises EndpointMissing."""
    with services.database.session() as session:
        found = endpoint_for(session, actor, Action.READ, endpoint)
        return EndpointRecord.of(found), attached_names(session, found)
