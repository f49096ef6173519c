"""Actions of pages on adapters, one of many at a time, and how each ended in words."""

import time

from loradock.operations import adapters, models
from loradock.operations.services import Services
from loradock.store.sessions import SignedIn


async def attach(services: Services, me: SignedIn, endpoint_id: str, adapter: str) -> str:
    """Raises LoradockError; then nothing has changed."""
    began = time.monotonic()
    await adapters.attach_named(services, me.actor, endpoint_id, adapter)
    return f"attached in {(time.monotonic() - began) * 1000:.0f} ms"


async def detach(services: Services, me: SignedIn, adapter: str, endpoint_id: str | None = None) -> str:
    """Detach from `endpoint_id`, else from wherever it is attached. Raises LoradockError."""
    await adapters.detach_named(services, me.actor, adapter, endpoint_id)
    return "detached"


async def delete(services: Services, me: SignedIn, adapter: str) -> str:
    """Detaches it first and waits for its last requests. Raises LoradockError."""
    await models.detach_and_delete(services, me.actor, adapter)
    return "deleted"
