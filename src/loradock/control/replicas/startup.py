"""The way of a replica from a process to an engine that answers."""

import asyncio

from loradock.control.context import ControlContext
from loradock.control.replicas.process import ReplicaEnded
from loradock.control.replicas.replica import Replica
from loradock.gateway.routing.upstream import Upstream
from loradock.replicas.client import ReplicaClient
from loradock.replicas.launcher import Instance
from loradock.types.enums import Fate

_POLL_S = 0.1


async def until_healthy(
    replica: Replica, instance: Instance, secret: str, context: ControlContext
) -> tuple[ReplicaClient, Upstream]:
    """Raises ReplicaEnded when the process ends, or is given up."""
    options, clock = context.options, context.awake
    deadline = clock.now() + options.start_timeout
    while clock.now() < deadline:
        replica.process.check_alive()
        if address := instance.address():
            client = replica.client or ReplicaClient(context.http, address, secret, options.check_timeout)
            replica.client = client
            if await client.healthy():
                replica.upstream = Upstream(replica.id, address, secret)
                return client, replica.upstream
        await asyncio.sleep(_POLL_S)
    raise ReplicaEnded(f"the engine was not ready after {options.start_timeout:.0f} s", Fate.STUCK)
