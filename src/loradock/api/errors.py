"""Error handlers: every error leaves in the one body shape that all clients read (types.errors.LoradockError.body)."""

import logging
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse

from loradock.api.nearest import allowed, nearest
from loradock.types.errors import BadRequest, Internal, LoradockError, NestedTooDeeply, NotFound

log = logging.getLogger(__name__)


class NoSuchRoute(NotFound):
    """There is no {method} {path} here{hint}."""


class NoSecondApi(NotFound):
    """There is no {method} {path} here: this server speaks the v1 API. Use its clients: pip install 'together<3'"""


class MethodNotAllowed(LoradockError):
    """{path} does not take {method}{hint}."""

    status = 405
    type = "invalid_request_error"


def install(app: FastAPI) -> None:
    app.add_exception_handler(LoradockError, _ours)
    app.add_exception_handler(RequestValidationError, _validation)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(Exception, _unexpected)


async def _ours(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, LoradockError)
    return JSONResponse(error.body(), error.status, error.headers())


async def _validation(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    return await _ours(request, explain(next(iter(error.errors()))))


async def _http(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    if isinstance(error.__cause__, LoradockError):  # raised while the framework read the body
        return await _ours(request, error.__cause__)
    if isinstance(error.__cause__, RecursionError):
        return await _ours(request, NestedTooDeeply())
    if error.status_code not in (404, 405):
        return await _ours(request, BadRequest(f"{error.detail}. Check the request body."))
    return await _no_route(request, error.status_code)


async def _no_route(request: Request, status: int) -> JSONResponse:
    method, path = request.method, request.url.path
    if path.startswith("/v2/"):
        return await _ours(request, NoSecondApi(method=method, path=path))
    routes = request.app.openapi()["paths"]
    methods = allowed(path, routes)
    if methods or status == 405:
        hint = f": it takes {' and '.join(methods)}" if methods else ""
        answer = await _ours(request, MethodNotAllowed(method=method, path=path, hint=hint))
        answer.headers["allow"] = ", ".join(methods)
        return answer
    meant = nearest(method, path, routes)
    hint = f"; the nearest is {meant}" if meant else "; GET /docs tells what there is"
    return await _ours(request, NoSuchRoute(method=method, path=path, hint=hint))


async def _unexpected(request: Request, error: Exception) -> JSONResponse:
    request_id = request.scope.get("request_id", "unknown")
    log.error("request %s: %s %s failed", request_id, request.method, request.url.path, exc_info=error)
    answer = await _ours(request, Internal(f"{Internal.__doc__} Request id: {request_id}"))
    answer.headers["x-should-retry"] = "false"  # the clients would repeat a POST that may have half succeeded
    return answer


def explain(error: dict[str, Any]) -> BadRequest:
    """A validation error in words: which field, what was wrong, what was sent (unless it may hold a secret)."""
    names = [str(part) for part in error["loc"][1:]]
    field = ".".join(names)
    if error["type"] == "json_invalid":
        return BadRequest(f"the request body is not valid JSON: {error.get('ctx', {}).get('error', error['msg'])}")
    if not field:
        return BadRequest("the request needs a JSON object as its body, with Content-Type: application/json")
    if error["type"] == "missing":
        return BadRequest(f"{field} is missing", param=field)
    sent = "" if "token" in field else f" (you sent {_shown(error['input'])})"
    return BadRequest(f"{field}: {error['msg']}{sent}", param=names[0])


def _shown(value: Any) -> str:
    try:
        text = ascii(value)
    except RecursionError:
        return "what is nested too deeply to be shown"
    return text if len(text) <= 100 else f"{text[:100]}…"
