"""Queries of the history for the pages and the API. Times are Unix seconds; every call is scoped to an account.

    series(session, account_id, *, endpoint_id=None, model=None, since, until, points=60) -> list[Point]
    totals(session, account_id, *, since, until, by=("model",), scope=Scope.CALLS) -> list[Total]
    per_adapter(session, account_id, endpoint_id, since) -> list[AdapterUse]
    endpoint_rates(session, account_id, since, until) -> dict[endpoint id, Rates]

An account sees its own calls, and all traffic at endpoints of its own, but never who else called there. What was
served within the last ten seconds may not be written yet.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Literal

from sqlalchemy import ColumnElement, func, select
from sqlalchemy.orm import Session

from loradock.store.tables import ApiKey, Endpoint
from loradock.store.usage import EndpointRow, UsageRow
from loradock.telemetry.scope import own_calls, own_endpoints, owns
from loradock.telemetry.series import Point, milliseconds, series
from loradock.telemetry.usage import COUNTS, Usage

__all__ = ["AdapterUse", "Point", "Rates", "Scope", "Total", "endpoint_rates", "per_adapter", "series", "totals"]

_DAY_S = 86400
By = Literal["model", "key", "endpoint", "day"]
_COLUMNS: dict[By, ColumnElement[Any]] = {
    "model": UsageRow.model.expression,
    "key": UsageRow.key_id.expression,
    "endpoint": UsageRow.endpoint_id.expression,
    "day": (UsageRow.start - UsageRow.start % _DAY_S),
}


class Scope(StrEnum):
    """CALLS: what the account called, wherever. ENDPOINTS: what anybody called at the account's endpoints."""

    CALLS = "calls"
    ENDPOINTS = "endpoints"


@dataclass(frozen=True, slots=True)
class Total:
    """A row of a usage table. What it was not grouped by is None; `day` is its midnight UTC in Unix seconds.

    `model` "" is the base model. `key_name` is the key's name and hint; `endpoint_name` is None when it is gone.
    """

    model: str | None
    key_id: str | None
    key_name: str | None
    endpoint_id: str | None
    endpoint_name: str | None
    day: int | None
    ok: int
    client_error: int
    server_error: int
    aborted: int
    prompt_tokens: int
    completion_tokens: int

    @property
    def requests(self) -> int:
        return self.ok + self.client_error + self.server_error + self.aborted


@dataclass(frozen=True, slots=True)
class AdapterUse:
    """`model` "" is the base model. Times in milliseconds, of streams; None when there were none."""

    model: str
    requests: int
    errors: int
    prompt_tokens: int
    completion_tokens: int
    ttft_p50_ms: float | None
    ttft_p99_ms: float | None
    per_token_p50_ms: float | None
    per_token_p99_ms: float | None


@dataclass(frozen=True, slots=True)
class Rates:
    requests_per_s: float
    tokens_per_s: float
    """Completion tokens."""


def totals(
    session: Session,
    account_id: str,
    *,
    since: float,
    until: float,
    by: Sequence[By] = ("model",),
    scope: Scope = Scope.CALLS,
) -> list[Total]:
    """Return totals, most tokens first. Raises ValueError for keys at ENDPOINTS, which may be other accounts'."""
    if scope is Scope.ENDPOINTS and "key" in by:
        raise ValueError("keys are shown to the account they belong to only")
    groups = [_COLUMNS[part].label(part) for part in by]
    sums = [func.sum(getattr(UsageRow, name)).label(name) for name in COUNTS]
    mine = own_calls(account_id) if scope is Scope.CALLS else UsageRow.endpoint_id.in_(own_endpoints(account_id))
    query = select(*groups, *sums).where(mine, UsageRow.start >= since, UsageRow.start < until).group_by(*groups)
    rows = [row for row in session.execute(query) if row.ok is not None]
    keys, endpoints = _key_names(session, account_id, by), _endpoint_names(session, rows, by)
    found = [_total(row, keys, endpoints) for row in rows]
    return sorted(found, key=lambda total: total.prompt_tokens + total.completion_tokens, reverse=True)


def _total(row: Any, keys: dict[str, str], endpoints: dict[str, str]) -> Total:
    part = {name: getattr(row, name, None) for name in _COLUMNS}
    return Total(
        model=part["model"],
        key_id=part["key"],
        key_name=keys.get(part["key"] or ""),
        endpoint_id=part["endpoint"],
        endpoint_name=endpoints.get(part["endpoint"] or ""),
        day=part["day"],
        **{name: int(getattr(row, name)) for name in COUNTS},
    )


def _key_names(session: Session, account_id: str, by: Sequence[By]) -> dict[str, str]:
    if "key" not in by:
        return {}
    return {key.id: key.label for key in session.scalars(select(ApiKey).where(ApiKey.account_id == account_id))}


def _endpoint_names(session: Session, rows: Sequence[Any], by: Sequence[By]) -> dict[str, str]:
    if "endpoint" not in by:
        return {}
    query = select(Endpoint.id, Endpoint.name).where(Endpoint.id.in_({row.endpoint for row in rows}))
    return {row.id: row.name for row in session.execute(query)}


def per_adapter(session: Session, account_id: str, endpoint_id: str, since: float) -> list[AdapterUse]:
    """All traffic at an own endpoint, else the account's own. Most tokens first."""
    conditions = [UsageRow.endpoint_id == endpoint_id, UsageRow.start >= since]
    if not owns(session, account_id, endpoint_id):
        conditions.append(own_calls(account_id))
    columns = (UsageRow.model, *(getattr(UsageRow, name) for name in (*COUNTS, "ttft", "per_token", "duration")))
    sums: dict[str, Usage] = {}
    for row in session.execute(select(*columns).where(*conditions)):
        sums.setdefault(row.model, Usage()).add(Usage.of(row))
    found = [_use(model, usage) for model, usage in sums.items()]
    return sorted(found, key=lambda use: use.prompt_tokens + use.completion_tokens, reverse=True)


def _use(model: str, usage: Usage) -> AdapterUse:
    return AdapterUse(
        model=model,
        requests=usage.requests,
        errors=usage.client_error + usage.server_error,
        prompt_tokens=usage.prompt_tokens,
        completion_tokens=usage.completion_tokens,
        ttft_p50_ms=milliseconds(usage.ttft, 0.5),
        ttft_p99_ms=milliseconds(usage.ttft, 0.99),
        per_token_p50_ms=milliseconds(usage.per_token, 0.5),
        per_token_p99_ms=milliseconds(usage.per_token, 0.99),
    )


def endpoint_rates(session: Session, account_id: str, since: float, until: float) -> dict[str, Rates]:
    """Return the rates of the account's own endpoints that were called since; for lists."""
    requests = EndpointRow.ok + EndpointRow.client_error + EndpointRow.server_error + EndpointRow.aborted
    query = (
        select(EndpointRow.endpoint_id, func.sum(requests), func.sum(EndpointRow.completion_tokens))
        .where(EndpointRow.endpoint_id.in_(own_endpoints(account_id)))
        .where(EndpointRow.start >= since, EndpointRow.start < until)
        .group_by(EndpointRow.endpoint_id)
    )
    seconds = max(1.0, until - since)
    return {id_: Rates(count / seconds, tokens / seconds) for id_, count, tokens in session.execute(query) if count}
