"""Errors as pages for people, as a line of text where a script or a fragment asked."""

import logging

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from loradock.dashboard.render import page as render
from loradock.dashboard.security import HEADERS
from loradock.types.errors import Internal, LoradockError, NotFound

_log = logging.getLogger(__name__)


def page(request: Request, error: Exception) -> Response:
    assert isinstance(error, LoradockError)
    if "hx-request" in request.headers:
        return PlainTextResponse(error.message, error.status, error.headers())
    response = render(request, "error.html", status=error.status, error=error)
    response.headers.update(error.headers())
    return response


def nothing_here(request: Request) -> Response:
    return page(request, NotFound("There is no such page. It may have been deleted, or the address is mistyped."))


def unexpected(request: Request, error: Exception) -> Response:
    _log.error("%s %s failed", request.method, request.url.path, exc_info=error)
    response = page(request, Internal())
    response.headers.update({**HEADERS, "cache-control": "no-store"})  # it is made outside of what adds them
    return response
