"""API keys of the account: make one (its text is shown once), see them, revoke them."""

import time

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from loradock.dashboard.components.lists import read_asked, shown
from loradock.dashboard.render import dialog, go_to, page
from loradock.dashboard.security import signed_in
from loradock.operations import keys
from loradock.operations.access import key_for
from loradock.operations.services import Services
from loradock.queries.keys import SORTS, is_last_key, search_keys
from loradock.store.sessions import SignedIn
from loradock.telemetry.queries import totals
from loradock.types.access import Action

_LONGEST_NAME = 64
_DAY_S = 86400
_REVOKED = {"valid": False, "revoked": True}


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
    plain = await keys.create(services, me.actor, name)
    return await run_in_threadpool(_list, request, me, plain=plain)


@signed_in
def ask_revoke(request: Request, me: SignedIn) -> Response:
    services: Services = request.app.state.services
    until = time.time()
    with services.database.session() as session:
        key = key_for(session, me.actor, Action.READ, request.path_params["id"])
        used = totals(session, me.account_id, since=until - _DAY_S, until=until, by=("key",))
        requests = sum(total.requests for total in used if total.key_id == key.id)
        return dialog(request, "revoke_key.html", key=key, requests=requests, last=is_last_key(session, key))


@signed_in
async def revoke(request: Request, me: SignedIn) -> Response:
    """Revoking the key one is signed in with ends the session; the next page asks for another."""
    services: Services = request.app.state.services
    await keys.revoke(services, me.actor, request.path_params["id"])
    return go_to(request, "/ui/keys")


def _list(
    request: Request, me: SignedIn, *, error: str | None = None, name: str = "", plain: str | None = None
) -> Response:
    services: Services = request.app.state.services
    asked = read_asked(
        "/ui/keys", request.query_params, sorts=SORTS, usual="-created", filters={"status": tuple(_REVOKED)}
    )
    with services.database.session() as session:
        found = search_keys(session, me.account_id, asked.list_query(), _REVOKED.get(asked.filters["status"]))
        status = 422 if error else 200
        return page(request, "keys.html", status=status, list=shown(asked, found), error=error, name=name, plain=plain)


routes = [
    Route("/ui/keys", index),
    Route("/ui/keys", create, methods=["POST"]),
    Route("/ui/keys/{id}/revoke", ask_revoke),
    Route("/ui/keys/{id}/revoke", revoke, methods=["POST"]),
]
