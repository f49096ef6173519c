"""Protects a signed-in browser: headers, the session cookie, and a secret that other sites cannot know."""

import hmac
import inspect
from collections.abc import Callable
from functools import wraps
from typing import Any
from urllib.parse import SplitResult, quote, urlsplit

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import MutableHeaders
from starlette.requests import HTTPConnection, Request
from starlette.responses import RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from loradock.dashboard.base_path import prefix_of, without_prefix
from loradock.operations.services import Services
from loradock.store.actor import ACTOR
from loradock.store.sessions import LIFETIME, SignedIn, find_session
from loradock.types.errors import LoradockError

COOKIE = "loradock_session"
CSRF_HEADER = "x-csrf-token"
CSRF_FIELD = "csrf"
_POLICY = {
    "default-src": "'none'",
    "script-src": "'self'",
    "style-src": "'self'",
    "img-src": "'self' data:",
    "font-src": "'self'",
    "connect-src": "'self'",
    "form-action": "'self'",
    "base-uri": "'none'",
    "frame-ancestors": "'none'",
}
HEADERS = {
    "content-security-policy": "; ".join(f"{name} {value}" for name, value in _POLICY.items()),
    "x-content-type-options": "nosniff",
    "referrer-policy": "same-origin",
    "x-frame-options": "DENY",
}


class Forged(LoradockError):
    """This form is out of date or was not sent from this dashboard. Go back, reload the page and send it again."""

    status = 403
    type = "permission_error"


class ElsewhereSent(Forged):
    """This form was sent from a page of {origin}, which is not the address that this server knows itself by. If that is where you opened the dashboard, a proxy stands before the server: whoever runs it tells it the address with: loradock serve --public-url {origin}"""  # noqa: E501


class SecurityHeaders:
    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def tagged(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(raw=message["headers"])
                headers.update(HEADERS)
                headers.setdefault("cache-control", "no-store")
            await send(message)

        await self._app(scope, receive, tagged)


def who(connection: HTTPConnection, services: Services) -> SignedIn | None:
    """Return whoever the connection's cookie was given to. Reads the database."""
    token = connection.cookies.get(COOKIE)
    if not token:
        return None
    with services.database.session() as session:
        return find_session(session, token)


def set_cookie(response: Response, token: str, request: Request) -> None:
    age, secure = int(LIFETIME.total_seconds()), request.url.scheme == "https"
    path = prefix_of(request) or "/"
    response.set_cookie(COOKIE, token, max_age=age, httponly=True, samesite="lax", secure=secure, path=path)


def delete_cookie(response: Response, request: Request) -> None:
    response.delete_cookie(COOKIE, path=prefix_of(request) or "/")


def refuse_foreign(request: HTTPConnection) -> None:
    """Raises Forged where a browser says that another site's page sent this.

    Over https and from this machine it says so itself, whatever name a proxy in between gives the server; else the
    origin that it tells has to be the host that was asked.
    """
    if site := request.headers.get("sec-fetch-site"):
        if site not in ("same-origin", "none"):
            raise Forged
        return
    origin = request.headers.get("origin")
    if origin is not None and _split(origin).netloc != request.headers.get("host"):
        raise ElsewhereSent(origin=origin[:200])


def check_csrf(request: HTTPConnection, signed_in: SignedIn, sent: str | None) -> None:
    """Raises Forged."""
    refuse_foreign(request)
    if not hmac.compare_digest((sent or "").encode(), signed_in.csrf.encode()):
        raise Forged


def _split(address: str) -> SplitResult:
    """Split a header's address; one that is no address has no parts."""
    try:
        return urlsplit(address)
    except ValueError:
        return urlsplit("")


Handler = Callable[..., Any]


def signed_in(handler: Handler) -> Handler:
    """A page for somebody: `handler(request, me)`, in a worker thread when it is a plain function.

    Others are sent to sign in. What changes anything (POST) is refused without the session's secret.
    """

    @wraps(handler)
    async def guarded(request: Request) -> Response:
        services: Services = request.app.state.services
        me = await run_in_threadpool(who, request, services)
        if me is None:
            return _to_sign_in(request)
        if request.method not in ("GET", "HEAD"):
            sent = request.headers.get(CSRF_HEADER) or (await request.form()).get(CSRF_FIELD)
            check_csrf(request, me, sent if isinstance(sent, str) else None)
        request.state.me = me
        ACTOR.set(me.actor.key_name)
        return await _call(handler, request, me)

    return guarded


async def _call(handler: Handler, request: Request, me: SignedIn) -> Response:
    if inspect.iscoroutinefunction(handler):
        response: Response = await handler(request, me)
        return response
    return await run_in_threadpool(handler, request, me)


def _to_sign_in(request: Request) -> Response:
    wanted = _page_of(request)
    target = "/ui/sign-in" if wanted == "/" else f"/ui/sign-in?next={quote(wanted, safe='')}"
    if "hx-request" in request.headers:  # htmx follows redirects by itself and would put the page into a fragment
        return Response(status_code=204, headers={"hx-redirect": target})
    return RedirectResponse(target, 303)


def _page_of(request: Request) -> str:
    """The address of the page that the request is for: of a form or a fragment, the one that it stands on."""
    address = str(request.url)
    if request.method != "GET" or "hx-request" in request.headers:
        address = request.headers.get("hx-current-url") or request.headers.get("referer") or "/"
    parts = _split(address)
    path = without_prefix(parts.path, prefix_of(request)) if prefix_of(request) else parts.path
    return (path or "/") + (f"?{parts.query}" if parts.query else "")
