"""Bytes on their way in: counted, reported and stopped at their limits."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import BinaryIO, Protocol

from loradock.types.enums import ModelKind
from loradock.types.errors import BadRequest, Unavailable

_CHUNK = 1 << 20


class Reader(Protocol):
    def read(self, size: int = -1, /) -> bytes: ...


@dataclass(frozen=True)
class Limits:
    """The limits of one upload: bytes on disk by kind of model, and seconds from start to end."""

    adapter_bytes: int = 4 << 30
    model_bytes: int = 256 << 30
    seconds: float = 6 * 3600

    def bytes_for(self, kind: ModelKind | None) -> int:
        return self.adapter_bytes if kind is ModelKind.ADAPTER else self.model_bytes


class UploadStopped(Unavailable):
    """the server stopped during this upload; upload again"""


class Transfer:
    """Accounts for the bytes of one upload. `report` gets (what is happening, bytes so far, bytes in all or None)."""

    def __init__(
        self,
        report: Callable[[str, int, int | None], None] | None = None,
        limits: Limits | None = None,
        stopping: Callable[[], bool] = lambda: False,
    ) -> None:
        self.limits = limits or Limits()
        self._report = report or (lambda _step, _done, _total: None)
        self._stopping = stopping
        self._deadline = time.monotonic() + self.limits.seconds
        self._step = ""
        self._done = 0
        self._limit = 0
        self._total: int | None = None

    def begin(self, step: str, total: int | None, kind: ModelKind | None) -> None:
        """Start counting a step from zero. Raises BadRequest when `total` is already too much."""
        self._step = step
        self._done = 0
        self._total = total
        self._limit = self.limits.bytes_for(kind)
        self._check(total or 0)
        self._report(step, 0, total)

    def advance(self, count: int) -> None:
        """Raises BadRequest at the limits, UploadStopped when the server stops."""
        self._done += count
        self._check(self._done)
        self._report(self._step, self._done, self._total)

    def copy(self, source: Reader, target: BinaryIO) -> None:
        while chunk := source.read(_CHUNK):
            self.advance(len(chunk))
            target.write(chunk)

    def _check(self, count: int) -> None:
        if self._stopping():
            raise UploadStopped
        if count > self._limit:
            raise BadRequest(f"{self._step}: more than {human_bytes(self._limit)}, which is the limit of this server")
        if time.monotonic() > self._deadline:
            raise BadRequest(
                f"{self._step}: timed out after {self.limits.seconds:.0f} s; try again or use a source that is nearer"
            )


_UNITS = ("B", "kB", "MB", "GB", "TB")


def human_bytes(count: float) -> str:
    """12345678 → `12.3 MB`."""
    for unit in _UNITS[:-1]:
        if count < 1000:
            return f"{count:.0f} B" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def progress_text(step: str, done: int, total: int | None) -> str:
    """`downloading: 1.2 MB of 3.4 MB`."""
    return f"{step}: {human_bytes(done)}" + (f" of {human_bytes(total)}" if total is not None else "")
