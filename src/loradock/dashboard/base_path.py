"""The dashboard below a path: behind a proxy that serves other things, too.

Pages, scripts and code write addresses as if the dashboard lay at the root (`/ui/…`). Where it lies deeper, as the
server's front has found out, they are written anew on their way out, in one place, so that none can be forgotten.
"""

import re

from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Message, Receive, Scope, Send

SCOPE_KEY = "loradock.prefix"
"""Key of an ASGI scope: the path that the browser sees before every one of ours, "" at the root."""

_ATTRIBUTES = r"href|src|action|formaction|hx-[a-z-]+|data-[a-z-]+"
# Autoescaping turns every quote of a text into an entity, so that no text can look like an attribute.
_ADDRESS = re.compile(rf'(\s(?:{_ATTRIBUTES})=")(?=/(?:ui[/?"]|["?#]|favicon\.ico"))')
_ADDRESS_BYTES = re.compile(_ADDRESS.pattern.encode())
_HEADERS = {b"location", b"hx-redirect", b"hx-location", b"hx-push-url", b"hx-replace-url"}


def prefix_of(connection: HTTPConnection) -> str:
    prefix: str = connection.scope.get(SCOPE_KEY, "")
    return prefix


def prefixed(html: str, prefix: str) -> str:
    """A page or a fragment with its addresses below the prefix."""
    return _ADDRESS.sub(lambda found: found[1] + prefix, html) if prefix else html


def without_prefix(path: str, prefix: str) -> str:
    """A path as browsers see it, as ours."""
    return path.removeprefix(prefix) or "/" if path == prefix or path.startswith(f"{prefix}/") else path


class BelowPath:
    """ASGI, around the dashboard: redirects, and parts of pages that come as server-sent events."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        prefix = scope.get(SCOPE_KEY, "").encode("latin-1")
        if not prefix:
            await self._app(scope, receive, send)
            return
        events = False

        async def moved(message: Message) -> None:
            nonlocal events
            if message["type"] == "http.response.start":
                headers = message["headers"]
                events = any(name == b"content-type" and b"event-stream" in value for name, value in headers)
                message = {**message, "headers": [(name, _moved(name, value, prefix)) for name, value in headers]}
            elif events:
                body = _ADDRESS_BYTES.sub(lambda found: found[1] + prefix, message.get("body", b""))
                message = {**message, "body": body}
            await send(message)

        await self._app(scope, receive, moved)


def _moved(name: bytes, value: bytes, prefix: bytes) -> bytes:
    ours = name.lower() in _HEADERS and value.startswith(b"/") and not value.startswith(b"//")
    return prefix + value if ours else value
