"""The way of a replica from a process to an engine that answers."""

import asyncio

from loradock.control.context import ControlContext
from loradock.control.replicas.process import ReplicaEnded
from loradock.control.replicas.replica import Replica
from loradock.gateway.routing.upstream import Upstream
from loradock.replicas.client import ReplicaClient
from loradock.replicas.launcher import Instance
from loradock.replicas.vitals import Answer
from loradock.types.enums import Fate

_SHORTEST_PAUSE_S, _LONGEST_PAUSE_S, _PART = 0.01, 0.1, 20
"""Between two looks passes a part of the time since the launch: most starts take half a second, some take minutes."""


async def until_healthy(
    replica: Replica, instance: Instance, secret: str, context: ControlContext
) -> tuple[ReplicaClient, Upstream]:
    """Raises ReplicaEnded when the process ends, or is given up."""
    options, clock = context.options, context.awake
    begun = clock.now()
    while (taken := clock.now() - begun) < options.start_timeout:
        replica.process.check_alive()
        if address := instance.address():
            client = replica.client or ReplicaClient(context.http, address, secret, options.check_timeout)
            replica.client = client
            vitals = await client.vitals()
            replica.doing = vitals.doing
            if vitals.answer is Answer.GOOD:
                replica.upstream = Upstream(replica.id, address, secret)
                return client, replica.upstream
        await asyncio.sleep(min(_LONGEST_PAUSE_S, max(_SHORTEST_PAUSE_S, taken / _PART)))
    raise ReplicaEnded(f"the engine was not ready after {options.start_timeout:.0f} s", Fate.STUCK)
