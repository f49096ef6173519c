"""API keys of the account: make one (its text is shown once), see them, revoke them."""

import time
from typing import Any

from sqlalchemy import ColumnElement, func, or_, select
from sqlalchemy.orm import Session
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from loradock.api.services import Services
from loradock.dashboard.components.lists import PAGE_SIZE, Asked, Shown, read_asked
from loradock.dashboard.render import dialog, go_to, page
from loradock.dashboard.security import signed_in
from loradock.store.accounts import create_key, find_key, revoke_key
from loradock.store.sessions import SignedIn
from loradock.store.tables import ApiKey
from loradock.telemetry.queries import totals

_LONGEST_NAME = 64
_DAY_S = 86400
_SORTS: dict[str, ColumnElement[Any]] = {
    "created": ApiKey.created_at.expression,
    "name": func.lower(ApiKey.name),
    "status": ApiKey.revoked_at.expression,
}


@signed_in
def index(request: Request, me: SignedIn) -> Response:
    return _list(request, me)


@signed_in
async def create(request: Request, me: SignedIn) -> Response:
    """Answers with the page itself: the key's text is in this one answer and nowhere else."""
    name = str((await request.form()).get("name") or "").strip()
    if not 1 <= len(name) <= _LONGEST_NAME:
        error = f"Give it a name of 1 to {_LONGEST_NAME} characters that says who will use it."
        return await run_in_threadpool(_list, request, me, error=error, name=name)
    services: Services = request.app.state.services
    plain = await run_in_threadpool(_create, services, me, name)
    services.keys.forget()
    return await run_in_threadpool(_list, request, me, plain=plain)


@signed_in
def ask_revoke(request: Request, me: SignedIn) -> Response:
    services: Services = request.app.state.services
    until = time.time()
    with services.database.session() as session:
        key = find_key(session, me.account_id, request.path_params["id"])
        others = select(func.count(ApiKey.id)).where(
            ApiKey.account_id == me.account_id, ApiKey.revoked_at.is_(None), ApiKey.id != key.id
        )
        used = totals(session, me.account_id, since=until - _DAY_S, until=until, by=("key",))
        requests = sum(total.requests for total in used if total.key_id == key.id)
        last = not session.scalar(others)
        return dialog(request, "revoke_key.html", key=key, requests=requests, last=last)


@signed_in
async def revoke(request: Request, me: SignedIn) -> Response:
    """Revoking the key one is signed in with ends the session; the next page asks for another."""
    services: Services = request.app.state.services
    await run_in_threadpool(_revoke, services, me, request.path_params["id"])
    services.keys.forget()
    return go_to(request, "/ui/keys")


def _list(
    request: Request, me: SignedIn, *, error: str | None = None, name: str = "", plain: str | None = None
) -> Response:
    services: Services = request.app.state.services
    asked = read_asked(
        "/ui/keys", request.query_params, sorts=_SORTS, usual="-created", filters={"status": ("valid", "revoked")}
    )
    with services.database.session() as session:
        shown = _find(session, me.account_id, asked)
        status = 422 if error else 200
        return page(request, "keys.html", status=status, list=shown, error=error, name=name, plain=plain)


def _find(session: Session, account_id: str, asked: Asked) -> Shown[ApiKey]:
    own = ApiKey.account_id == account_id
    wanted = [own]
    if asked.text:
        wanted.append(or_(*(column.icontains(asked.text, autoescape=True) for column in (ApiKey.name, ApiKey.hint))))
    if status := asked.filters["status"]:
        wanted.append(ApiKey.revoked_at.is_(None) if status == "valid" else ApiKey.revoked_at.is_not(None))
    column = _SORTS[asked.column]
    order = column.desc() if asked.descending else column.asc()
    query = select(ApiKey).where(*wanted).order_by(order, ApiKey.id)
    rows = session.scalars(query.limit(PAGE_SIZE).offset((asked.page - 1) * PAGE_SIZE)).all()
    total, all = (session.scalar(select(func.count(ApiKey.id)).where(*c)) or 0 for c in (wanted, [own]))
    return Shown(asked, rows, total, PAGE_SIZE, all)


def _create(services: Services, me: SignedIn, name: str) -> str:
    with services.database.session() as session:
        return create_key(session, me.account, name)[1]


def _revoke(services: Services, me: SignedIn, key_id: str) -> None:
    with services.database.session(make_room=True) as session:
        revoke_key(session, find_key(session, me.account_id, key_id).id)


routes = [
    Route("/ui/keys", index),
    Route("/ui/keys", create, methods=["POST"]),
    Route("/ui/keys/{id}/revoke", ask_revoke),
    Route("/ui/keys/{id}/revoke", revoke, methods=["POST"]),
]
