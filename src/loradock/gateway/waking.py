"""Endpoints that start when somebody calls them."""

import asyncio
from collections.abc import Callable
from contextlib import suppress

from loradock.gateway.routes import EndpointFacts, Route, RouteTable
from loradock.types.enums import EndpointState

_PATIENCE_S = 600.0
_RESTING = (EndpointState.STOPPED, EndpointState.STOPPING)


class Waker:
    """`start` is called with an endpoint that is at rest and has `auto_start`."""

    def __init__(self, routes: RouteTable, start: Callable[[EndpointFacts], None]) -> None:
        self._routes, self._start = routes, start

    async def resolve(self, model: str, account_id: str, account: str) -> Route:
        """The route of a model; where its endpoint starts on request, once it answers. Raises ModelNotAvailable."""
        route = self._routes.resolve(model, account_id, account)
        if not _worth_waiting_for(route):
            return route
        asked = False
        with suppress(TimeoutError):
            async with asyncio.timeout(_PATIENCE_S):
                while _worth_waiting_for(route):
                    resting = route.endpoint.state in _RESTING
                    if resting and not asked:  # also when it is stopped again while this request waits
                        self._start(route.endpoint)
                    asked = resting
                    await self._routes.changed()
                    route = self._routes.resolve(model, account_id, account)
        return route


def _worth_waiting_for(route: Route) -> bool:
    facts = route.endpoint
    waits = facts.auto_start and facts.state is not EndpointState.ERROR
    return waits and not route.upstreams and route.refused is None
