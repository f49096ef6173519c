"""Dependencies of routes: the services they work with, and who asks."""

from typing import Annotated

from fastapi import Depends, Request

from loradock.gateway.keys import KNOWN_ACTOR
from loradock.operations.services import Services
from loradock.store.actor import ACTOR
from loradock.types.access import Actor


def get_services(request: Request) -> Services:
    services: Services = request.app.state.services
    return services


async def get_actor(request: Request) -> Actor:
    """Return whoever holds the request's key, from here on told as who acts. Raises Unauthenticated."""
    known: Actor | None = request.scope.get(KNOWN_ACTOR)
    actor = known or await get_services(request).keys.actor(request.headers.get("authorization", ""))
    ACTOR.set(actor.key_name)
    return actor


ServicesDep = Annotated[Services, Depends(get_services)]
ActorDep = Annotated[Actor, Depends(get_actor)]
