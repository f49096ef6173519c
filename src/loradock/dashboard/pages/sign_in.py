"""Signing in with an API key, and out again."""

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from loradock.dashboard.render import page
from loradock.dashboard.security import COOKIE, delete_cookie, refuse_foreign, set_cookie, signed_in, who
from loradock.operations.services import Services
from loradock.store.sessions import SignedIn, close_session, open_session

_WRONG = "No valid key reads like this. Paste a whole key, from “ld-” on, or make one with: loradock keys create"


async def form(request: Request) -> Response:
    services: Services = request.app.state.services
    if await run_in_threadpool(who, request, services):
        return RedirectResponse(_next(request), 303)
    return page(request, "sign_in.html", error=None, next=_next(request))


async def sign_in(request: Request) -> Response:
    refuse_foreign(request)
    services: Services = request.app.state.services
    key = (await request.form()).get("key")
    token = await run_in_threadpool(_open, services, key.strip() if isinstance(key, str) else "")
    if token is None:
        return page(request, "sign_in.html", status=401, error=_WRONG, next=_next(request))
    response = RedirectResponse(_next(request), 303)
    set_cookie(response, token, request)
    return response


def _open(services: Services, key: str) -> str | None:
    with services.database.session() as session:
        return open_session(session, key)


def _next(request: Request) -> str:
    """Return where to go afterwards: a page of ours, whatever the address says."""
    wanted = request.query_params.get("next", "/")
    return wanted if wanted == "/" or wanted.startswith("/ui/") else "/"


@signed_in
def sign_out(request: Request, me: SignedIn) -> Response:
    services: Services = request.app.state.services
    with services.database.session() as session:
        close_session(session, request.cookies[COOKIE])
    response = RedirectResponse("/ui/sign-in", 303)
    delete_cookie(response, request)
    return response


routes = [
    Route("/ui/sign-in", form),
    Route("/ui/sign-in", sign_in, methods=["POST"]),
    Route("/ui/sign-out", sign_out, methods=["POST"]),
]
