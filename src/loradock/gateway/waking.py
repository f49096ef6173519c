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
        if route.upstreams or not route.endpoint.auto_start:
            return route
        if route.endpoint.state in _RESTING:
            self._start(route.endpoint)
        with suppress(TimeoutError):
            async with asyncio.timeout(_PATIENCE_S):
                while not route.upstreams and route.endpoint.state is not EndpointState.ERROR:
                    await self._routes.changed()
                    route = self._routes.resolve(model, account_id, account)
        return route
