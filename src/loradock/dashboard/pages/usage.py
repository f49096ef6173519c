"""Usage: what the account's keys asked of which adapter, over a span; table, chart and CSV."""

import csv
import io
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from loradock.dashboard.components.charts import TRAFFIC_CHARTS, TRAFFIC_SPANS, chart_data, span_of
from loradock.dashboard.components.lists import PAGE_SIZE, Asked, cut, read_asked
from loradock.dashboard.render import page
from loradock.dashboard.security import signed_in
from loradock.operations.services import Services
from loradock.store.sessions import SignedIn
from loradock.telemetry.queries import By, Total, totals

_GROUPS: dict[str, Sequence[By]] = {
    "adapter": ("model", "endpoint"),
    "key": ("key",),
    "day": ("day", "key", "model", "endpoint"),
}
"""The subject of a table's or file's rows → how the history is grouped."""
_SORTS: dict[str, Callable[[Total], Any]] = {
    "tokens": lambda row: row.prompt_tokens + row.completion_tokens,
    "name": lambda row: (row.model or "", row.endpoint_name or ""),
    "requests": lambda row: row.requests,
    "failed": lambda row: row.client_error + row.server_error,
    "prompt": lambda row: row.prompt_tokens,
    "generated": lambda row: row.completion_tokens,
}
_COUNTS = ("requests", "ok", "client_error", "server_error", "aborted", "prompt_tokens", "completion_tokens")


@dataclass(frozen=True, slots=True)
class Sum:
    requests: int
    failed: int
    prompt_tokens: int
    completion_tokens: int


@signed_in
def usage(request: Request, me: SignedIn) -> Response:
    span = span_of(request, TRAFFIC_SPANS, "day")
    found = {by: _totals(request, me, span, by) for by in ("adapter", "key")}
    asked = read_asked("/ui/usage", request.query_params, sorts=_SORTS, usual="-tokens", more=("span",))
    return page(
        request,
        "usage.html",
        span=span,
        spans=list(TRAFFIC_SPANS),
        charts=TRAFFIC_CHARTS,
        list=cut(asked, _sorted(found["adapter"], asked), all=len(found["adapter"])),
        keys=found["key"][:PAGE_SIZE],
        key_count=len(found["key"]),
        sum=_sum(found["key"]),
    )


def _sorted(found: Iterable[Total], asked: Asked) -> list[Total]:
    text = asked.text.lower()
    rows = [row for row in found if text in f"{row.model or 'base model'} {row.endpoint_name or ''}".lower()]
    return sorted(rows, key=_SORTS[asked.column], reverse=asked.descending)


@signed_in
def series(request: Request, me: SignedIn) -> Response:
    span = TRAFFIC_SPANS[span_of(request, TRAFFIC_SPANS, "day")]
    return JSONResponse(chart_data(_services(request), me.account_id, None, span, TRAFFIC_CHARTS))


@signed_in
def download(request: Request, me: SignedIn) -> Response:
    """The same numbers as a CSV file: `by` adapter, key, or day with everything."""
    span = span_of(request, TRAFFIC_SPANS, "day")
    by = request.query_params.get("by", "day")
    by = by if by in _GROUPS else "day"
    text = _csv(_GROUPS[by], _totals(request, me, span, by))
    name = f"loradock-usage-{span}-by-{by}.csv"
    return Response(text, media_type="text/csv", headers={"content-disposition": f'attachment; filename="{name}"'})


def _totals(request: Request, me: SignedIn, span: str, by: str) -> list[Total]:
    until = time.time()
    since = until - TRAFFIC_SPANS[span].seconds
    with _services(request).database.session() as session:
        return totals(session, me.account_id, since=since, until=until, by=_GROUPS[by])


def _sum(found: Iterable[Total]) -> Sum:
    rows = list(found)
    return Sum(
        requests=sum(row.requests for row in rows),
        failed=sum(row.client_error + row.server_error for row in rows),
        prompt_tokens=sum(row.prompt_tokens for row in rows),
        completion_tokens=sum(row.completion_tokens for row in rows),
    )


def _csv(groups: Sequence[By], rows: Iterable[Total]) -> str:
    out = io.StringIO()
    # RFC 4180; all text is quoted: some spreadsheets split cells elsewhere than at commas.
    writer = csv.writer(out, lineterminator="\r\n", quoting=csv.QUOTE_NONNUMERIC)
    writer.writerow([*(column for group in groups for column in _COLUMNS[group]), *_COUNTS])
    for row in rows:
        values = [value for group in groups for value in _values(group, row)]
        writer.writerow([*map(_harmless, values), *(getattr(row, name) for name in _COUNTS)])
    return out.getvalue()


_COLUMNS: dict[By, tuple[str, ...]] = {
    "model": ("adapter",),
    "endpoint": ("endpoint_id", "endpoint"),
    "key": ("key_id", "key"),
    "day": ("day",),
}


def _values(group: By, row: Total) -> tuple[str, ...]:
    if group == "day":
        return (datetime.fromtimestamp(row.day or 0, UTC).date().isoformat(),)
    if group == "key":
        return row.key_id or "", row.key_name or ""
    return (row.model or "",) if group == "model" else (row.endpoint_id or "", row.endpoint_name or "")


def _harmless(text: str) -> str:
    """Spreadsheets take a cell that begins like this for a formula, and names are free text."""
    return f"'{text}" if text.startswith(("=", "+", "-", "@", "\t", "\r", "\n")) else text


def _services(request: Request) -> Services:
    services: Services = request.app.state.services
    return services


routes = [
    Route("/ui/usage", usage),
    Route("/ui/usage/series", series),
    Route("/ui/usage/download", download),
]
