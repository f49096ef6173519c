"""The route table: which replicas answer to which model name. In memory only; the control loop writes it."""

import asyncio
import math
import time
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from loradock.gateway.routing.placement import least_busy, pick_by_affinity
from loradock.gateway.routing.upstream import Upstream
from loradock.types.access import Action, Actor, Resource, ResourceKind, allowed
from loradock.types.enums import EndpointState
from loradock.types.errors import (
    AdapterNotServed,
    EndpointFailed,
    EndpointNotRunning,
    EndpointStarting,
    LoradockError,
    ModelNotAvailable,
)
from loradock.types.names import combined_id

_COMING = {EndpointState.PENDING, EndpointState.STARTING, EndpointState.STARTED}


@dataclass(frozen=True, slots=True)
class EndpointFacts:
    """The facts of an endpoint that the table needs. `public`: other accounts may call it. `auto_start`: a request to
    it while it is stopped starts it and waits."""

    id: str
    name: str
    account_id: str
    account: str
    public: bool
    state: EndpointState
    auto_start: bool = False

    @property
    def resource(self) -> Resource:
        """The resource that a caller has to be allowed to call."""
        return Resource(ResourceKind.ENDPOINT, self.account_id, self.public)


@dataclass(frozen=True, slots=True)
class Route:
    """`engine_name` is what the replicas call it; `upstreams` are those that hold it now. `crowded`: there are more
    adapters than a replica has slots, so that each should stay where it was served before. `refused`: why a replica
    would not take the adapter. `awaited`: replicas that have served are expected back, or others in their place, and
    `back_at` is when (of time.monotonic), where that can be told."""

    endpoint: EndpointFacts
    engine_name: str
    upstreams: tuple[Upstream, ...]
    crowded: bool = False
    refused: str | None = None
    awaited: bool = False
    back_at: float | None = None

    @property
    def adapter(self) -> str | None:
        """None when it leads to the base model."""
        return None if self.engine_name == self.endpoint.name else self.engine_name

    def but(self, lost: Collection[Upstream]) -> Sequence[Upstream]:
        """The replicas that are not among those."""
        if not lost:
            return self.upstreams
        return [upstream for upstream in self.upstreams if upstream not in lost]

    def pick(
        self, lost: Collection[Upstream] = (), avoid: Upstream | None = None, affinity: str | None = None
    ) -> Upstream:
        """The replica for the next request: none of the `lost` ones, `avoid` only if there is no other. Raises when
        none is up.

        The one with least in flight; for requests that share an `affinity`, and for crowded adapters, their home.
        """
        there = self.but(lost)
        if not there:
            raise self._unavailable()
        if len(there) == 1:
            return there[0]
        others = [upstream for upstream in there if upstream is not avoid]
        if len(others) > 1 and (affinity is not None or self.crowded):
            return pick_by_affinity(f"{self.engine_name}\0{affinity or ''}", others)
        return least_busy(others)

    def _unavailable(self) -> LoradockError:
        facts = self.endpoint
        if self.refused is not None:
            return AdapterNotServed(name=self.engine_name, endpoint=facts.name, reason=self.refused.rstrip("."))
        if facts.state in _COMING:
            return self._starting()
        resting = EndpointFailed if facts.state is EndpointState.ERROR else EndpointNotRunning
        return resting(name=facts.name, state=facts.state, id=facts.id)

    def _starting(self) -> EndpointStarting:
        error = EndpointStarting(name=self.endpoint.name, state=self.endpoint.state)
        if self.back_at is not None:
            error.retry_after = max(1, math.ceil(self.back_at - time.monotonic()))
        return error


class RouteTable:
    def __init__(self) -> None:
        self._by_name: dict[str, Route] = {}
        self._names: dict[str, set[str]] = {}  # deployment id → the names it put into _by_name
        self._endpoints: dict[str, EndpointFacts] = {}  # of each deployment
        self._change = asyncio.Event()

    def publish(self, deployment_id: str, base: Route, adapters: Iterable[Route]) -> None:
        """Replace all that is known of a deployment at once."""
        self._drop(deployment_id, self._names.get(deployment_id, set()))
        self._names[deployment_id], self._endpoints[deployment_id] = set(), base.endpoint
        self._put(deployment_id, {base.endpoint.name: base, base.endpoint.id: base, **_named(adapters)})
        self._announce()

    def amend(self, deployment_id: str, gone: Iterable[str], adapters: Iterable[Route]) -> None:
        """Replace what is known of some adapters of a deployment that was published: `gone` are the names that the
        replicas had for them."""
        endpoint = self._endpoints[deployment_id].name
        self._drop(deployment_id, {name for adapter in gone for name in (adapter, combined_id(endpoint, adapter))})
        self._put(deployment_id, _named(adapters))
        self._announce()

    def withdraw(self, deployment_id: str) -> None:
        if deployment_id in self._names:
            self._drop(deployment_id, self._names[deployment_id])
            del self._names[deployment_id], self._endpoints[deployment_id]
            self._announce()

    async def changed(self) -> None:
        """Returns when something is published or withdrawn."""
        await self._change.wait()

    def _put(self, deployment_id: str, fresh: dict[str, Route]) -> None:
        for name, route in fresh.items():
            there = self._by_name.get(name)
            # An adapter may be named like an endpoint: that is then the endpoint's name.
            if there is None or route.adapter is None or there.adapter or there.endpoint.id == route.endpoint.id:
                self._by_name[name] = route
                self._names[deployment_id].add(name)

    def _drop(self, deployment_id: str, names: set[str]) -> None:
        """Drop those of the names that are this deployment's."""
        ours = self._names.get(deployment_id, set())
        for name in names & ours:
            ours.remove(name)
            if name in self._by_name and self._by_name[name].endpoint.id == self._endpoints[deployment_id].id:
                del self._by_name[name]

    def _announce(self) -> None:
        self._change.set()
        self._change = asyncio.Event()

    def resolve(self, model: str, actor: Actor) -> Route:
        """The route an actor means by `model`: an exact name, or one with their own adapter by its short name.

        Another account's name answers like one that does not exist. Raises ModelNotAvailable.
        """
        route = self._by_name.get(model) or self._by_name.get(_with_account(model, actor.account))
        if route is None or not allowed(actor, Action.CALL, route.endpoint.resource):
            raise ModelNotAvailable(model=model)
        return route

    def callable_names(self, actor: Actor) -> list[str]:
        """Names this actor can call right now, each once: endpoint names and adapter names."""
        return sorted(
            {
                route.engine_name if name == route.engine_name else route.endpoint.name
                for name, route in self._by_name.items()
                if route.upstreams and allowed(actor, Action.CALL, route.endpoint.resource)
            }
        )


def _with_account(model: str, account: str) -> str:
    """The account put in front of the adapter, also within a combined id."""
    endpoint, separator, adapter = model.rpartition(":")
    return f"{endpoint}{separator}{account}/{adapter}"


def _named(adapters: Iterable[Route]) -> dict[str, Route]:
    """Each under its name and its combined id."""
    routes: dict[str, Route] = {}
    for route in adapters:
        routes[route.engine_name] = routes[combined_id(route.endpoint.name, route.engine_name)] = route
    return routes
