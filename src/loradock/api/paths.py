"""One spelling for every path: ids with `%2F` in them stay one segment, aliases become the `/v1` route.

Clients send an endpoint's name, which has slashes, as one percent-encoded segment; ASGI servers decode the
path before routing, so the raw path is split first and decoded after. Base URLs without `/v1`, and clients
that append their own `/v1` or `/v3` to one, reach the same routes.
"""

import re
from typing import Any
from urllib.parse import unquote

_DOUBLE = re.compile(r"^/v1(?=/v[123]/)")
_BARE = re.compile(r"^/(endpoints|events|models|jobs|hardware|clusters|chat|completions|projects|whoami)(?=/|$)")


def canonical_path(scope: dict[str, Any]) -> str:
    """The path to route by; a slash inside a segment stays `%2F`."""
    raw: bytes = scope.get("raw_path") or scope["path"].encode()
    decoded = "/".join(unquote(part).replace("/", "%2F") for part in raw.decode("latin-1").split("?")[0].split("/"))
    path = _DOUBLE.sub("", decoded)
    if path.endswith("/v3/whoami"):
        return "/v3/whoami"
    path = f"/v1{path}" if _BARE.match(path) else path
    return path.rstrip("/") or "/"


def decode_segment(segment: str) -> str:
    """The id or name in a path parameter."""
    return segment.replace("%2F", "/")
