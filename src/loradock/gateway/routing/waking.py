"""Endpoints that start when somebody calls them."""

import asyncio
from collections.abc import Callable, Collection
from contextlib import suppress

from loradock.gateway.routing.routes import EndpointFacts, Route, RouteTable
from loradock.gateway.routing.upstream import Upstream
from loradock.types.access import Actor
from loradock.types.enums import EndpointState

_PATIENCE_S = 600.0
BACK_S = 60.0
"""The seconds a request waits for replicas that are expected back."""

_RESTING = (EndpointState.STOPPED, EndpointState.STOPPING)


class Waker:
    """`start` is called with an endpoint that is at rest and has `auto_start`. `patience`: how many seconds a request
    waits for replicas that are expected back."""

    def __init__(self, routes: RouteTable, start: Callable[[EndpointFacts], None], patience: float = BACK_S) -> None:
        self._routes = routes
        self._start = start
        self._patience = patience

    async def resolve(self, model: str, actor: Actor, lost: Collection[Upstream] = ()) -> Route:
        """The route of a model. Where its endpoint starts on request, or its replicas are expected back, once another
        than the `lost` ones answers, or patience ends. Raises ModelNotAvailable."""
        route = self._routes.resolve(model, actor)
        if not _worth_waiting_for(route, lost):
            return route
        asked = False
        with suppress(TimeoutError):
            async with asyncio.timeout(_PATIENCE_S if _wakes(route) else self._patience):
                while _worth_waiting_for(route, lost):
                    resting = route.endpoint.state in _RESTING
                    if resting and not asked:  # also when it is stopped again while this request waits
                        self._start(route.endpoint)
                    asked = resting
                    await self._routes.changed()
                    route = self._routes.resolve(model, actor)
        return route


def _worth_waiting_for(route: Route, lost: Collection[Upstream]) -> bool:
    if route.refused is not None or route.but(lost):
        return False
    return route.awaited or bool(route.upstreams) or _wakes(route)


def _wakes(route: Route) -> bool:
    return route.endpoint.auto_start and route.endpoint.state is not EndpointState.ERROR
