"""What pages do to adapters, one or many: attach, detach, delete."""

import asyncio
import time

from starlette.concurrency import run_in_threadpool

from loradock.api.services import Services
from loradock.endpoints.attachments import binding, find_adapter
from loradock.endpoints.rules import find_endpoint
from loradock.queries.attachments import is_held
from loradock.registry.models import delete_model
from loradock.store.sessions import SignedIn
from loradock.types.errors import NotBound, Unavailable
from loradock.types.names import combined_id

_DRAIN_S = 90.0
"""How long deleting waits for an adapter's last requests."""
_LOOK_S = 0.1


async def attach(services: Services, me: SignedIn, endpoint_id: str, adapter: str) -> str:
    """Raises LoradockError; then nothing has changed."""
    began = time.monotonic()
    endpoint = await run_in_threadpool(_endpoint_name, services, me, endpoint_id)
    await services.controller.attach(me.account_id, endpoint_id, combined_id(endpoint, adapter))
    return f"attached in {(time.monotonic() - began) * 1000:.0f} ms"


async def detach(services: Services, me: SignedIn, adapter: str, endpoint_id: str | None = None) -> str:
    """From `endpoint_id`, else from wherever it is attached. Raises LoradockError."""
    found = await run_in_threadpool(_place, services, me, adapter)
    if found is None or endpoint_id not in (None, found[0]):
        raise NotBound(param="model_id")
    await services.controller.detach(me.account_id, found[0], combined_id(found[1], adapter))
    return "detached"


async def delete(services: Services, me: SignedIn, adapter: str) -> str:
    """Detaches it first and waits for its last requests. Raises LoradockError."""
    if await run_in_threadpool(_place, services, me, adapter) is not None:
        await detach(services, me, adapter)
    deadline = time.monotonic() + _DRAIN_S
    while await run_in_threadpool(_drains, services, me, adapter):
        if time.monotonic() > deadline:
            raise Unavailable(f"{adapter} is detached and still finishes requests; delete it when they have ended")
        await asyncio.sleep(_LOOK_S)
    await run_in_threadpool(delete_model, services.database, services.blobs, me.account_id, adapter)
    return "deleted"


def _endpoint_name(services: Services, me: SignedIn, endpoint_id: str) -> str:
    with services.database.session() as session:
        return find_endpoint(session, me.account_id, endpoint_id).name


def _place(services: Services, me: SignedIn, adapter: str) -> tuple[str, str] | None:
    """(id, name) of the endpoint that it is attached to. Raises ModelMissing."""
    with services.database.session() as session:
        bound = binding(session, find_adapter(session, me.account_id, adapter))
        return (bound.deployment.endpoint.id, bound.deployment.endpoint.name) if bound else None


def _drains(services: Services, me: SignedIn, adapter: str) -> bool:
    with services.database.session() as session:
        return is_held(session, find_adapter(session, me.account_id, adapter))
