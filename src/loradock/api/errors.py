"""Every error leaves in the one body shape that all clients read (types.errors.LoradockError.body)."""

import logging
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse

from loradock.types.errors import BadRequest, Internal, LoradockError, NotFound

log = logging.getLogger(__name__)


class NoSuchRoute(NotFound):
    """There is no {method} {path} here."""


class MethodNotAllowed(LoradockError):
    """{path} does not take {method}."""

    status = 405
    type = "invalid_request_error"


def install(app: FastAPI) -> None:
    app.add_exception_handler(LoradockError, _ours)
    app.add_exception_handler(RequestValidationError, _validation)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(Exception, _unexpected)


async def _ours(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, LoradockError)
    return JSONResponse(error.body(), error.status)


async def _validation(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    return await _ours(request, explain(next(iter(error.errors()))))


async def _http(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    fields = {"method": request.method, "path": request.url.path}
    known: LoradockError = NoSuchRoute(**fields) if error.status_code == 404 else MethodNotAllowed(**fields)
    return await _ours(request, known)


async def _unexpected(request: Request, error: Exception) -> JSONResponse:
    log.error("%s %s failed", request.method, request.url.path, exc_info=error)
    return await _ours(request, Internal())


def explain(error: dict[str, Any]) -> BadRequest:
    """A validation error in words: which field, what was wrong, what was sent."""
    names = [str(part) for part in error["loc"] if part not in ("body", "query", "path")]
    field = ".".join(names)
    if error["type"] == "json_invalid":
        return BadRequest(f"the request body is not valid JSON: {error.get('ctx', {}).get('error', error['msg'])}")
    if error["type"] == "missing":
        return BadRequest(f"{field} is missing" if field else "the request needs a JSON body", param=field or None)
    return BadRequest(f"{field}: {error['msg']} (you sent {error['input']!r:.200})", param=names[0] if names else None)
