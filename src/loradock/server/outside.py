"""The server's address from outside: scheme, host and path before ours, as browsers have them behind a proxy."""

import ipaddress
import re
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from loradock.dashboard.base_path import SCOPE_KEY, without_prefix
from loradock.gateway.proxy._asgi import App, Receive, Scope, Send
from loradock.types.errors import BadRequest

_HOST = re.compile(r"([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(:\d{1,5})?")
_PREFIX = re.compile(r"(/[A-Za-z0-9._~+-]+)*")
_OURS = ("ui", "v1", "v2", "health", "metrics")
_USUAL = {"http": "80", "https": "443"}


@dataclass(frozen=True, slots=True)
class Outside:
    """`host` with its port, where it is not the usual one; `prefix` is "" or begins with a slash."""

    scheme: str
    host: str
    prefix: str = ""


def read_public_url(text: str) -> str:
    """The address, without a slash at its end. Raises BadRequest."""
    outside = _parsed(text)
    return f"{outside.scheme}://{outside.host}{outside.prefix}"


def _parsed(text: str) -> Outside:
    wrong = BadRequest(
        f"--public-url {text}: give the address that browsers use, such as https://example.com/loradock"
        f" (the path may not begin with {', '.join(f'/{name}' for name in _OURS)})"
    )
    try:
        parts = urlsplit(text.rstrip("/"))
    except ValueError:
        raise wrong from None
    right = parts.scheme in _USUAL and _HOST.fullmatch(parts.netloc) and _is_prefix(parts.path)
    if not right or parts.query or parts.fragment:
        raise wrong
    return Outside(parts.scheme, parts.netloc.lower().removesuffix(f":{_USUAL[parts.scheme]}"), parts.path)


def _is_prefix(path: str) -> bool:
    segments = path.split("/")[1:]
    return bool(_PREFIX.fullmatch(path)) and not {".", ".."} & set(segments) and not {*_OURS} & set(segments[:1])


class Proxies:
    """The proxies whose word about the outside counts: addresses, networks, or `*` for everybody's. Raises
    BadRequest."""

    def __init__(self, trusted: Sequence[str]) -> None:
        words = [part.strip() for words in trusted for part in words.split(",") if part.strip()]
        self._all = "*" in words
        try:
            self._networks = [ipaddress.ip_network(word, strict=False) for word in words if word != "*"]
        except ValueError as error:
            raise BadRequest(f"--trusted-proxies: {error}; give addresses or networks such as 10.0.0.0/8") from error

    def __contains__(self, host: str) -> bool:
        if self._all:
            return True
        try:
            address = ipaddress.ip_address(host.partition("%")[0])
        except ValueError:
            return False
        # An IPv4 client of a socket for both families.
        mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
        return any((mapped or address) in network for network in self._networks)


class FromOutside:
    """ASGI: tells the application scheme, host and path as they are outside. The prefix is taken off the path, if the
    proxy has left it there."""

    def __init__(self, app: App, public_url: str | None, trusted: Sequence[str]) -> None:
        self._app = app
        self._public = _parsed(public_url) if public_url is not None else None
        self._proxies = Proxies(trusted)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            scope = self._seen(scope)
        await self._app(scope, receive, send)

    def _seen(self, scope: Scope) -> Scope:
        headers = {name: value.decode("latin-1") for name, value in reversed(scope["headers"])}
        client = scope["client"][0] if scope.get("client") else ""
        outside = self._public or (_forwarded(headers) if client in self._proxies else None)
        if outside is None:
            return scope
        others = [field for field in scope["headers"] if field[0] != b"host"]
        raw = (scope.get("raw_path") or scope["path"].encode()).decode("latin-1")
        return {
            **scope,
            "scheme": outside.scheme,
            "headers": [(b"host", outside.host.encode()), *others] if outside.host else scope["headers"],
            "path": without_prefix(scope["path"], outside.prefix),
            "raw_path": without_prefix(raw, outside.prefix).encode("latin-1"),
            SCOPE_KEY: outside.prefix,
        }


def _forwarded(headers: dict[bytes, str]) -> Outside | None:
    """Return what a proxy says: X-Forwarded-Proto, -Host, -Port, -Prefix, else Forwarded (RFC 7239). Of several, the
    first is the one that the browser spoke to."""
    standard = _standard(headers.get(b"forwarded", ""))
    scheme = _first(headers, b"x-forwarded-proto") or standard.get("proto", "")
    host = _first(headers, b"x-forwarded-host") or standard.get("host", "")
    prefix = _first(headers, b"x-forwarded-prefix").rstrip("/")
    scheme = scheme.lower() if scheme.lower() in _USUAL else "http"
    if not _HOST.fullmatch(host):
        host = headers.get(b"host", "")
    port = _first(headers, b"x-forwarded-port")
    if port.isdecimal() and _HOST.fullmatch(host) and not re.search(r":\d+$", host):
        host = f"{host}:{port}"
    return Outside(scheme, host.removesuffix(f":{_USUAL[scheme]}"), prefix if _is_prefix(prefix) else "")


def _first(headers: dict[bytes, str], name: bytes) -> str:
    return headers.get(name, "").partition(",")[0].strip()


def _standard(forwarded: str) -> dict[str, str]:
    pairs = (pair.partition("=") for pair in forwarded.partition(",")[0].split(";"))
    return {name.strip().lower(): value.strip().strip('"') for name, _, value in pairs}
