"""The rows of the list of endpoints."""

import time
from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy.orm import Session

from loradock.dashboard.components.endpoint_view import written_until
from loradock.dashboard.components.lists import PAGE_SIZE, Asked, Shown
from loradock.queries.endpoints import search_endpoints
from loradock.store.tables import Endpoint
from loradock.telemetry.queries import Rates, endpoint_rates
from loradock.telemetry.readings import Reading
from loradock.types.enums import EndpointState

_MINUTE_S = 60
_IDLE = Rates(0.0, 0.0)


@dataclass(frozen=True, slots=True)
class EndpointRow:
    """`rates`: of the last minute; `reading`: None until its loop has looked at it."""

    endpoint: Endpoint
    attached: int
    reading: Reading | None
    rates: Rates


def list_rows(
    session: Session, account_id: str, asked: Asked, readings: Mapping[str, Reading], size: int = PAGE_SIZE
) -> Shown[EndpointRow]:
    """`readings` by endpoint id."""
    until = written_until(time.time())
    rates = endpoint_rates(session, account_id, until - _MINUTE_S, until)
    word = asked.filters.get("state")
    state = EndpointState(word.upper()) if word else None
    found = search_endpoints(session, account_id, asked.list_query(size), state)
    rows = [
        EndpointRow(row.endpoint, row.attached, readings.get(row.endpoint.id), rates.get(row.endpoint.id, _IDLE))
        for row in found.rows
    ]
    return Shown(asked, rows, found.total, size, found.all)
