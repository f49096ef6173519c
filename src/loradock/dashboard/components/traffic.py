"""The last day in numbers and bars, for pages that show it beside other things."""

import time
from dataclasses import dataclass

from sqlalchemy.orm import Session

from loradock.telemetry.queries import Point, Scope, Total, series, totals

_DAY_S = 86400
_BARS = 48
_HEIGHT = 40.0


@dataclass(frozen=True, slots=True)
class Bar:
    """A bar of a drawing `_HEIGHT` units high in which every interval has a column of 10."""

    x: int
    y: float
    height: float


@dataclass(frozen=True, slots=True)
class Traffic:
    requests: int
    errors: int
    prompt_tokens: int
    completion_tokens: int
    bars: list[Bar]
    width: int
    peak: float
    """Requests per second at most, over an interval."""


def of_model(session: Session, account_id: str, model: str) -> Traffic:
    """Return the traffic of an adapter at the account's own endpoints."""
    until = time.time()
    since = until - _DAY_S
    found = totals(session, account_id, since=since, until=until, by=("model",), scope=Scope.ENDPOINTS)
    points = series(session, account_id, model=model, since=since, until=until, points=_BARS)
    return _traffic([total for total in found if total.model == model], points)


def of_account(session: Session, account_id: str) -> Traffic:
    """Return the traffic that the account itself asked for, wherever."""
    until = time.time()
    since = until - _DAY_S
    found = totals(session, account_id, since=since, until=until, by=("model",))
    return _traffic(found, series(session, account_id, since=since, until=until, points=_BARS))


def _traffic(found: list[Total], points: list[Point]) -> Traffic:
    peak = max((point.requests_per_s for point in points), default=0.0)
    return Traffic(
        requests=sum(total.requests for total in found),
        errors=sum(total.client_error + total.server_error for total in found),
        prompt_tokens=sum(total.prompt_tokens for total in found),
        completion_tokens=sum(total.completion_tokens for total in found),
        bars=_bars(points, peak),
        width=10 * len(points),
        peak=peak,
    )


def _bars(points: list[Point], peak: float) -> list[Bar]:
    heights = [_HEIGHT * point.requests_per_s / peak if peak else 0.0 for point in points]
    return [
        Bar(10 * number + 1, round(_HEIGHT - height, 1), round(max(height, 1.0), 1))
        for number, height in enumerate(heights)
        if height
    ]
