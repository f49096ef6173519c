"""The services that operations work with."""

from dataclasses import dataclass

from loradock.configuration.settings import Settings
from loradock.control.controller import Controller
from loradock.gateway.keys import KeyCache
from loradock.gateway.routing.routes import RouteTable
from loradock.registry.bases.base_models import BaseModels
from loradock.registry.blobs import Blobs
from loradock.registry.uploads.uploads import UploadRunner
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
