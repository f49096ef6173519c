"""An archive behind an http(s) URL."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urljoin, urlsplit

import httpcore

from loradock.registry.archives import unpack
from loradock.registry.sources.public_network import PublicNetwork
from loradock.registry.transfer import Transfer
from loradock.store.failures import check_room, room_on_disk
from loradock.types.enums import ModelKind
from loradock.types.errors import BadRequest, reason_of

_REDIRECTS = (301, 302, 303, 307, 308)
_MAX_REDIRECTS = 5
_TIMEOUTS = {"connect": 10.0, "read": 60.0, "write": 10.0, "pool": 10.0}


@dataclass(frozen=True)
class ArchiveUrl:
    """`url` may carry a signature; only `label` may be shown."""

    url: str = field(repr=False)
    label: str
    allow_private: bool = False

    def fetch(
        self, workspace: Path, into: Path, kind: ModelKind | None, transfer: Transfer, subfolder: str | None = None
    ) -> ModelKind:
        archive = workspace / "archive"
        try:
            with room_on_disk():
                self._download(archive, kind, transfer)
        except httpcore.TimeoutException as error:
            raise BadRequest(f"{self.label} timed out: try again or use a source that is nearer") from error
        except (httpcore.NetworkError, httpcore.ProtocolError, httpcore.UnsupportedProtocol, OSError) as error:
            raise BadRequest(f"{self.label} cannot be downloaded: {reason_of(error)}") from error
        return unpack(archive, into, kind, transfer, subfolder)

    def _download(self, archive: Path, kind: ModelKind | None, transfer: Transfer) -> None:
        with self._open() as response, archive.open("wb") as target:
            length = _header(response, b"content-length")
            total = int(length) if length.isdigit() else None
            transfer.begin("downloading", total, kind)
            check_room(archive.parent, total or 0)
            received = 0
            for chunk in response.iter_stream():
                transfer.advance(len(chunk))
                target.write(chunk)
                received += len(chunk)
        if total is not None and received != total:
            raise BadRequest(f"{self.label} was cut off after {received} of {total} bytes: upload again")

    @contextmanager
    def _open(self) -> Iterator[httpcore.Response]:
        """The response at the end of at most five redirects."""
        url = self.url
        with httpcore.ConnectionPool(network_backend=PublicNetwork(self.allow_private)) as pool:
            for _ in range(_MAX_REDIRECTS + 1):
                with pool.stream("GET", url, headers=_headers(url), extensions={"timeout": _TIMEOUTS}) as response:
                    if response.status not in _REDIRECTS:
                        self._check_status(response.status)
                        yield response
                        return
                    url = self._next(url, response)
        raise BadRequest(f"{self.label} redirects more than {_MAX_REDIRECTS} times: give the final URL")

    def _next(self, url: str, response: httpcore.Response) -> str:
        location = _header(response, b"location").decode("latin-1")
        target = urljoin(url, location)
        if not location or urlsplit(target).scheme not in ("http", "https"):
            raise BadRequest(f"{self.label} redirects to something that is not an http(s) URL: give the final URL")
        return target

    def _check_status(self, status: int) -> None:
        if status in (401, 403):
            raise BadRequest(f"{self.label} answered {status}: the link has expired or needs a login; presign it again")
        if status != 200:
            raise BadRequest(f"{self.label} answered {status}: check the URL")


def _headers(url: str) -> list[tuple[str, str]]:
    parts = urlsplit(url)
    return [("Host", parts.netloc.rpartition("@")[2]), ("User-Agent", "loradock"), ("Accept-Encoding", "identity")]


def _header(response: httpcore.Response, name: bytes) -> bytes:
    return next((value for key, value in response.headers if key.lower() == name), b"")
