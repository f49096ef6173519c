"""Whether this machine has the memory for more replicas."""

import asyncio

from loradock.control.fleet import Fleet
from loradock.types.enums import ReplicaState

_GIB = 2**30


async def room_for(more: int, fleet: Fleet, free: int) -> tuple[int, str | None]:
    """How many of `more` replicas fit `free` bytes, and the reason if not all.

    One needs what the largest that runs has taken; the first of a deployment is let try.
    """
    each = await asyncio.to_thread(lambda: max((keeper.use().resident for keeper in fleet.ready), default=0))
    starting = len(fleet.of_state(ReplicaState.STARTING))
    fit = max(0, free // each - starting) if each else more
    if fit >= more:
        return more, None
    return fit, (
        f"a further replica needs {each / _GIB:.1f} GiB of memory and"
        f" {max(0, free - starting * each) / _GIB:.1f} GiB are free. Stop an endpoint, or lower max_replicas"
    )
