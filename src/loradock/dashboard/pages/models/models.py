"""My Models: the account's adapters, and the base models at hand."""

from dataclasses import dataclass

from sqlalchemy.orm import Session
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from loradock.dashboard.components.lists import PAGE_SIZE, Asked, Shown, cut, read_asked
from loradock.dashboard.render import page
from loradock.dashboard.security import signed_in
from loradock.operations.services import Services
from loradock.queries.adapters import (
    SORTS,
    AdapterSearch,
    AdapterStatus,
    bases_of_adapters,
    count_adapters,
    search_adapters,
)
from loradock.queries.endpoints import count_by_base
from loradock.queries.jobs import newest_jobs
from loradock.registry.details import files_of
from loradock.store.sessions import SignedIn
from loradock.types.enums import ModelState

_PATH = "/ui/models"
_BASES_PATH = "/ui/base-models"
_BASE_SORTS = ("name", "origin", "size_bytes", "endpoints", "adapters")


@dataclass(frozen=True, slots=True)
class BaseRow:
    """A base model on this machine; `endpoints` and `adapters` are the account's own for it."""

    name: str
    origin: str
    size_bytes: int
    endpoints: int
    adapters: int


@signed_in
def index(request: Request, me: SignedIn) -> Response:
    services: Services = request.app.state.services
    asked = asked_for(request)
    with services.database.session() as session:
        found, total = search_adapters(session, me.account_id, search_of(asked))
        uploading = [row.model.id for row in found if row.model.state is ModelState.UPLOADING]
        adapters = count_adapters(session, me.account_id)
        return page(
            request,
            "models.html",
            kind="adapter",
            list=Shown(asked, found, total, PAGE_SIZE, adapters),
            jobs=newest_jobs(session, me.account_id, uploading),
            adapters=adapters,
            bases=bases_of_adapters(session, me.account_id),
        )


@signed_in
def base_models(request: Request, me: SignedIn) -> Response:
    services: Services = request.app.state.services
    asked = read_asked(_BASES_PATH, request.query_params, sorts=_BASE_SORTS, usual="name")
    with services.database.session() as session:
        rows = _base_rows(services, session, me.account_id)
        adapters = count_adapters(session, me.account_id)
    matching = [row for row in rows if asked.text.lower() in row.name.lower()]
    matching.sort(key=lambda row: (getattr(row, asked.column), row.name), reverse=asked.descending)
    return page(request, "base_models.html", kind="model", list=cut(asked, matching, all=len(rows)), adapters=adapters)


def asked_for(request: Request) -> Asked:
    """Return what the address asks of the list of adapters."""
    return read_asked(
        _PATH,
        request.query_params,
        sorts=SORTS,
        usual="-created",
        filters={"base": None, "status": tuple(AdapterStatus)},
    )


def search_of(asked: Asked) -> AdapterSearch:
    status = asked.filters["status"]
    return AdapterSearch(asked.list_query(), asked.filters["base"], AdapterStatus(status) if status else None)


def _base_rows(services: Services, session: Session, account_id: str) -> list[BaseRow]:
    adapters = bases_of_adapters(session, account_id)
    endpoints = count_by_base(session, account_id)
    return [
        BaseRow(
            name=base.name,
            origin=base.origin,
            size_bytes=sum(file.size_bytes for file in files_of(base.path)),
            endpoints=endpoints.get(base.name, 0),
            adapters=adapters.get(base.name, 0),
        )
        for base in services.bases.at_hand(account_id)
    ]


routes = [Route(_PATH, index), Route(_BASES_PATH, base_models)]
