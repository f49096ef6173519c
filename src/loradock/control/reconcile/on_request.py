"""Endpoints that a request starts."""

import asyncio
import logging
from collections.abc import Callable

from sqlalchemy.orm import Session

from loradock.control.context import ControlContext
from loradock.control.reconcile.reconcile import DeploymentLoop
from loradock.endpoints.rules import set_desired
from loradock.store.events import record
from loradock.store.failures import DATABASE_FAILURES
from loradock.store.repeats import Repeats
from loradock.store.tables import Endpoint
from loradock.types.enums import DesiredState


class StartsOnRequest:
    """`loop_of` gives a deployment's loop by its id."""

    def __init__(self, context: ControlContext, loop_of: Callable[[str], DeploymentLoop]) -> None:
        self._context = context
        self._loop_of = loop_of
        self._repeats = Repeats(logging.getLogger(__name__))

    async def start(self, endpoint_id: str) -> None:
        """Start the endpoint, also when the database is busy for a while: the request waits."""
        async with self._context.locks[endpoint_id]:  # several requests may have come at once
            while True:
                try:
                    deployment_id = await self._context.transact(lambda session: _start(session, endpoint_id))
                    break
                except DATABASE_FAILURES as error:
                    self._repeats.failed("starting endpoints on request", error)
                    await asyncio.sleep(self._context.options.tick)
            self._repeats.worked("starting endpoints on request")
        if deployment_id is not None:
            self._loop_of(deployment_id).wake()


def _start(session: Session, endpoint_id: str) -> str | None:
    """The deployment to wake; None when it was asked to start already, or is gone."""
    endpoint = session.get(Endpoint, endpoint_id)
    if endpoint is None or endpoint.deployment.desired is DesiredState.STARTED:
        return None
    set_desired(endpoint.deployment, DesiredState.STARTED)
    record(session, endpoint.account_id, endpoint.id, "endpoint.woken", "a request asked for it")
    return endpoint.deployment.id
