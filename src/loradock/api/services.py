"""What the routes work with, and how they get at it."""

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request

from loradock.configuration.settings import Settings
from loradock.control.controller import Controller
from loradock.gateway.keys import CALLER, Caller, KeyCache
from loradock.gateway.routing.routes import RouteTable
from loradock.registry.bases.base_models import BaseModels
from loradock.registry.blobs import Blobs
from loradock.registry.uploads.uploads import UploadRunner
from loradock.store.actor import ACTOR
from loradock.store.database import Database
from loradock.telemetry.history import History
from loradock.telemetry.meter import Meter


@dataclass
class Services:
    settings: Settings
    database: Database
    keys: KeyCache
    routes: RouteTable
    bases: BaseModels
    blobs: Blobs
    uploads: UploadRunner
    controller: Controller
    meter: Meter
    history: History


def get_services(request: Request) -> Services:
    services: Services = request.app.state.services
    return services


async def get_caller(request: Request) -> Caller:
    """The account behind the request's key, and from here on the actor. Raises Unauthenticated."""
    known: Caller | None = request.scope.get(CALLER)
    caller = known or await get_services(request).keys.caller(request.headers.get("authorization", ""))
    ACTOR.set(caller.key_name)
    return caller


ServicesDep = Annotated[Services, Depends(get_services)]
CallerDep = Annotated[Caller, Depends(get_caller)]
