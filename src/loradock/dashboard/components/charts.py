"""The content of charts: which series of the history, over which span, in which unit."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from starlette.requests import Request

from loradock.dashboard.components.endpoint_view import written_until
from loradock.operations.services import Services
from loradock.telemetry.queries import series

_DAY_S = 86400


@dataclass(frozen=True, slots=True)
class Span:
    seconds: int
    points: int


SPANS = {"hour": Span(3600, 120), "day": Span(_DAY_S, 144)}
TRAFFIC_SPANS = {
    "hour": Span(3600, 60),
    "day": Span(_DAY_S, 96),
    "week": Span(7 * _DAY_S, 84),
    "month": Span(30 * _DAY_S, 120),
}


@dataclass(frozen=True, slots=True)
class Chart:
    """`series`: field of a point → its name in the legend."""

    title: str
    unit: str
    series: dict[str, str]


REQUESTS = Chart("Requests", "per second", {"requests_per_s": "requests"})
TOKENS = Chart("Tokens", "per second", {"completion_tokens_per_s": "generated", "prompt_tokens_per_s": "prompt"})
TRAFFIC_CHARTS = (REQUESTS, TOKENS)
CHARTS = (
    REQUESTS,
    TOKENS,
    Chart("Time to first token", "ms", {"ttft_p50_ms": "p50", "ttft_p99_ms": "p99"}),
    Chart("Time per token", "ms", {"per_token_p50_ms": "p50", "per_token_p99_ms": "p99"}),
    Chart("In flight", "requests", {"in_flight": "in flight"}),
    Chart("Replicas", "", {"replicas_ready": "ready", "replicas_desired": "desired"}),
)


def span_of(request: Request, spans: Mapping[str, Span], default: str) -> str:
    """The name of the span that the address asks for."""
    asked = request.query_params.get("span", default)
    return asked if asked in spans else default


def chart_data(
    services: Services, account_id: str, endpoint_id: str | None, span: Span, charts: Sequence[Chart]
) -> dict[str, list[float | None]]:
    """Columns by field; `at` in Unix seconds. Without `endpoint_id`: of what the account itself called."""
    until = written_until(time.time())
    since = until - span.seconds
    with services.database.session() as session:
        points = series(session, account_id, endpoint_id=endpoint_id, since=since, until=until, points=span.points)
    fields = [name for chart in charts for name in chart.series]
    columns: dict[str, list[float | None]] = {name: [_short(getattr(p, name)) for p in points] for name in fields}
    return {"at": [point.at for point in points], **columns}


def _short(value: float | None) -> float | None:
    """Round to the digits that a chart can show."""
    return None if value is None else round(value, 3)
