"""Evenly spaced points for charts, out of rows of several spans."""

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import ColumnElement, select
from sqlalchemy.orm import Session

from loradock.store.usage import EndpointRow, UsageRow
from loradock.telemetry.downsample import FLUSH_S
from loradock.telemetry.histogram import Histogram
from loradock.telemetry.scope import own_calls, owns, visible
from loradock.telemetry.usage import COUNTS

_LONGEST_S = 3600
_GAUGES = ("samples", "in_flight", "ready", "starting", "desired", "attachments")


@dataclass(frozen=True, slots=True)
class Point:
    """An interval of a chart: `at` is its start in Unix seconds, rates are per second, times in milliseconds.

    `error_rate` is the share of requests answered with 4xx or 5xx. What was not measured is None: times without
    requests that have them, an error rate without requests, and the last three outside the own endpoint's chart or
    while it did not run. `in_flight` and the replicas are means over the interval.
    """

    at: int
    requests_per_s: float
    prompt_tokens_per_s: float
    completion_tokens_per_s: float
    error_rate: float | None
    ttft_p50_ms: float | None
    ttft_p99_ms: float | None
    per_token_p50_ms: float | None
    per_token_p99_ms: float | None
    in_flight: float | None
    replicas_ready: float | None
    replicas_desired: float | None


def series(
    session: Session,
    account_id: str,
    *,
    endpoint_id: str | None = None,
    model: str | None = None,
    since: float,
    until: float,
    points: int = 60,
) -> list[Point]:
    """Return about `points` intervals of equal width, a multiple of ten seconds, that cover `since` to `until`.

    They begin at multiples of their width, so that they stay the same when time goes on; the first may begin before
    `since`, the last is cut at `until`.

    With neither `endpoint_id` nor `model`: what the account itself called. With one of them: all traffic of the
    account's own endpoint (of the model at its own endpoints), and the account's own calls elsewhere. `model` "" is
    the base. `since` and `until` are Unix seconds.
    """
    grid = Grid.over(since, until, points)
    if endpoint_id is not None and model is None and owns(session, account_id, endpoint_id):
        grid.fill(_rows(session, EndpointRow, grid, [EndpointRow.endpoint_id == endpoint_id], _GAUGES))
        return grid.points()
    conditions = [own_calls(account_id) if endpoint_id is None and model is None else visible(account_id)]
    if endpoint_id is not None:
        conditions.append(UsageRow.endpoint_id == endpoint_id)
    if model is not None:
        conditions.append(UsageRow.model == model)
    grid.fill(_rows(session, UsageRow, grid, conditions))
    return grid.points()


def _rows(
    session: Session,
    table: type[UsageRow] | type[EndpointRow],
    grid: "Grid",
    conditions: list[ColumnElement[bool]],
    gauges: tuple[str, ...] = (),
) -> Iterable[Any]:
    columns = [getattr(table, name) for name in ("start", "span", "ttft", "per_token", *COUNTS, *gauges)]
    inside = (table.start > grid.first - _LONGEST_S, table.start < grid.end, table.start + table.span > grid.first)
    return session.execute(select(*columns).where(*inside, *conditions))


@dataclass(slots=True)
class _Slot:
    """The sums of one interval; fractions, where a row reaches over several."""

    sums: dict[str, float] = field(default_factory=lambda: dict.fromkeys((*COUNTS, *_GAUGES), 0.0))
    ttft: Histogram = field(default_factory=Histogram)
    per_token: Histogram = field(default_factory=Histogram)

    def add(self, row: Any, share: float) -> None:
        for name in COUNTS:
            self.sums[name] += getattr(row, name) * share
        for name in _GAUGES:
            self.sums[name] += getattr(row, name, 0) * share
        self.ttft.add(Histogram.unpacked(row.ttft))
        self.per_token.add(Histogram.unpacked(row.per_token))

    def point(self, at: int, seconds: float) -> Point:
        sums = self.sums
        errors = sums["client_error"] + sums["server_error"]
        requests = errors + sums["ok"] + sums["aborted"]
        samples = sums["samples"]
        return Point(
            at=at,
            requests_per_s=requests / seconds,
            prompt_tokens_per_s=sums["prompt_tokens"] / seconds,
            completion_tokens_per_s=sums["completion_tokens"] / seconds,
            error_rate=errors / requests if requests else None,
            ttft_p50_ms=milliseconds(self.ttft, 0.5),
            ttft_p99_ms=milliseconds(self.ttft, 0.99),
            per_token_p50_ms=milliseconds(self.per_token, 0.5),
            per_token_p99_ms=milliseconds(self.per_token, 0.99),
            in_flight=sums["in_flight"] / samples if samples else None,
            replicas_ready=sums["ready"] / samples if samples else None,
            replicas_desired=sums["desired"] / samples if samples else None,
        )


class Grid:
    """Intervals of `step` seconds from `first` on; `until` is where the last one is cut."""

    def __init__(self, first: int, step: int, count: int, until: float) -> None:
        self.first = first
        self._step = step
        self._until = until
        self._slots = [_Slot() for _ in range(count)]

    @classmethod
    def over(cls, since: float, until: float, points: int) -> "Grid":
        step = max(1, math.ceil((until - since) / points / FLUSH_S)) * FLUSH_S
        first = int(since) // step * step
        return cls(first, step, max(1, math.ceil((until - first) / step)), until)

    @property
    def end(self) -> int:
        return self.first + len(self._slots) * self._step

    def fill(self, rows: Iterable[Any]) -> None:
        for row in rows:
            begin, end = max(row.start, self.first), min(row.start + row.span, self.end)
            for index in range((begin - self.first) // self._step, -((self.first - end) // self._step)):
                low = self.first + index * self._step
                overlap = min(end, low + self._step) - max(begin, low)
                self._slots[index].add(row, overlap / row.span)

    def points(self) -> list[Point]:
        starts = range(self.first, self.end, self._step)
        return [
            slot.point(at, min(self._step, max(1.0, self._until - at)))
            for at, slot in zip(starts, self._slots, strict=True)
        ]


def milliseconds(times: Histogram, share: float) -> float | None:
    seconds = times.percentile(share)
    return None if seconds is None else seconds * 1000
