"""My Models: the account's adapters, and the base models at hand."""

from dataclasses import dataclass, replace
from urllib.parse import urlencode

from sqlalchemy import func, select
from sqlalchemy.orm import Session
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from loradock.api.services import Services
from loradock.dashboard.render import page
from loradock.dashboard.security import signed_in
from loradock.registry.details import files_of
from loradock.registry.listing import (
    PAGE_SIZE,
    Search,
    Status,
    bases_of_adapters,
    count_adapters,
    newest_jobs,
    search_adapters,
)
from loradock.store.sessions import SignedIn
from loradock.store.tables import Deployment, Endpoint
from loradock.types.enums import ModelState

_PATH = "/ui/models"


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
    search = _read(request)
    with services.database.session() as session:
        found, total = search_adapters(session, me.account_id, search)
        uploading = [row.model.id for row in found if row.model.state is ModelState.UPLOADING]
        return page(
            request,
            "models.html",
            kind="adapter",
            models=found,
            jobs=newest_jobs(session, me.account_id, uploading),
            total=total,
            adapters=count_adapters(session, me.account_id),
            bases=bases_of_adapters(session, me.account_id),
            search=search,
            page_size=PAGE_SIZE,
            address=lambda **changes: address(replace(search, **changes)),
        )


@signed_in
def base_models(request: Request, me: SignedIn) -> Response:
    services: Services = request.app.state.services
    text = request.query_params.get("q", "").strip()
    with services.database.session() as session:
        rows = _base_rows(services, session, me.account_id)
        adapters = count_adapters(session, me.account_id)
    shown = [row for row in rows if text.lower() in row.name.lower()]
    return page(
        request,
        "base_models.html",
        kind="model",
        models=shown,
        search=Search(text),
        base_count=len(rows),
        adapters=adapters,
    )


def _base_rows(services: Services, session: Session, account_id: str) -> list[BaseRow]:
    adapters = bases_of_adapters(session, account_id)
    endpoints = _endpoints_by_base(session, account_id)
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


def _endpoints_by_base(session: Session, account_id: str) -> dict[str, int]:
    query = select(Deployment.base_model, func.count()).join(Endpoint).where(Endpoint.account_id == account_id)
    return dict(session.execute(query.group_by(Deployment.base_model)).tuples().all())


def _read(request: Request) -> Search:
    """Whatever the address says: what cannot be read is as if it were not there."""
    asked = request.query_params
    status, number = asked.get("status", ""), asked.get("page", "1")
    return Search(
        text=asked.get("q", "").strip(),
        base=asked.get("base", ""),
        status=Status(status) if status in list(Status) else None,
        sort=asked.get("sort", "") or "-created",
        page=max(1, int(number)) if number.isdecimal() and len(number) < 7 else 1,
    )


def address(search: Search) -> str:
    """Of the list that shows this search."""
    parts = {
        "q": search.text,
        "base": search.base,
        "status": search.status or "",
        "sort": "" if search.sort == "-created" else search.sort,
        "page": "" if search.page == 1 else str(search.page),
    }
    query = urlencode({name: value for name, value in parts.items() if value})
    return f"{_PATH}?{query}" if query else _PATH


routes = [Route(_PATH, index), Route("/ui/base-models", base_models)]
