"""Decides which pages of other origins may call the API from a browser: none, unless a setting says so.

The dashboard and its cookie stay out of reach: it is never told of here, and no answer allows credentials
(https://fetch.spec.whatwg.org/#http-cors-protocol).
"""

import re
from collections.abc import Sequence
from urllib.parse import urlsplit

from loradock.gateway.proxy._asgi import Headers, Message, Scope, Send, answer_error
from loradock.types.errors import BadRequest, LoradockError

_METHODS = b"GET, POST, PATCH, PUT, DELETE, OPTIONS"
_HEADERS = re.compile(rb"[A-Za-z0-9!#$%&'*+.^_`|~, -]{1,4096}")
_EXPOSED = (b"access-control-expose-headers", b"x-request-id, retry-after, x-should-retry")
_VARY = (b"vary", b"Origin")
_KEPT_S = b"7200"


class OriginRefused(LoradockError):
    """Pages of {origin} may not call this server from a browser. Whoever runs it can allow that: loradock serve --allow-origin {origin}"""  # noqa: E501

    status = 403
    type = "permission_error"


def read_origins(given: Sequence[str]) -> tuple[str, ...]:
    """Origins as browsers spell them, out of words that may hold several with commas between. Raises BadRequest."""
    return tuple(_origin(part.strip()) for words in given for part in words.split(",") if part.strip())


def _origin(text: str) -> str:
    if text in ("*", "null"):
        return text
    wrong = BadRequest(
        f"--allow-origin {text}: give an origin such as https://app.example.com or http://localhost:3000, or *"
    )
    try:
        parts = urlsplit(text.lower().rstrip("/"))
    except ValueError:
        raise wrong from None
    if not (parts.scheme and parts.netloc) or parts.path or parts.query or parts.fragment or "@" in parts.netloc:
        raise wrong
    usual = {"http": ":80", "https": ":443"}.get(parts.scheme, "")
    return f"{parts.scheme}://{parts.netloc.removesuffix(usual) if usual else parts.netloc}"


class Cors:
    """Adds to answers of the API what browsers need, when pages of some `origins` are allowed."""

    def __init__(self, origins: Sequence[str]) -> None:
        self._origins = frozenset(origin.encode() for origin in origins)
        self._all = b"*" in self._origins

    def tagging(self, scope: Scope, send: Send) -> Send:
        """`send`, with what a browser needs to give the answer to its page."""
        headers = [_VARY]
        if (allowed := self._allowed(_header(scope, b"origin"))) is not None:
            headers += [(b"access-control-allow-origin", allowed), _EXPOSED]

        async def tagged(message: Message) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message["headers"], *headers]}
            await send(message)

        return tagged

    async def preflight(self, scope: Scope, send: Send) -> bool:
        """Answers the question that a browser asks before the request itself; False for any other request."""
        asked = _header(scope, b"access-control-request-method")
        origin = _header(scope, b"origin")
        if scope["method"] != "OPTIONS" or asked is None or origin is None:
            return False
        vary: Headers = [(b"vary", b"Origin, Access-Control-Request-Method, Access-Control-Request-Headers")]
        allowed = self._allowed(origin)
        if allowed is None:
            await answer_error(send, OriginRefused(origin=ascii(origin.decode("latin-1"))[1:-1][:200]), vary)
            return True
        headers = [*vary, (b"access-control-allow-origin", allowed), (b"access-control-allow-methods", _METHODS)]
        headers.append((b"access-control-max-age", _KEPT_S))
        wanted = _header(scope, b"access-control-request-headers")
        if wanted is not None and _HEADERS.fullmatch(wanted):
            headers.append((b"access-control-allow-headers", wanted))
        if _header(scope, b"access-control-request-private-network") == b"true":
            headers.append((b"access-control-allow-private-network", b"true"))
        await send({"type": "http.response.start", "status": 204, "headers": headers})
        await send({"type": "http.response.body", "body": b""})
        return True

    def _allowed(self, origin: bytes | None) -> bytes | None:
        if origin is None:
            return None
        if self._all:
            return b"*"
        return origin if origin in self._origins else None


def _header(scope: Scope, name: bytes) -> bytes | None:
    return next((value for key, value in scope["headers"] if key == name), None)
