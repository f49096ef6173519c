"""What the list of endpoints shows of each."""

import time
from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy.orm import Session

from loradock.dashboard.endpoint_view import written_until
from loradock.endpoints.rules import list_endpoints
from loradock.store.tables import Endpoint
from loradock.telemetry.queries import Rates, endpoint_rates
from loradock.telemetry.readings import Reading

_MINUTE_S = 60
_IDLE = Rates(0.0, 0.0)


@dataclass(frozen=True, slots=True)
class EndpointRow:
    """`rates`: of the last minute; `reading`: None until its loop has looked at it."""

    endpoint: Endpoint
    reading: Reading | None
    rates: Rates


def list_rows(session: Session, account_id: str, readings: Mapping[str, Reading]) -> list[EndpointRow]:
    """Newest first. `readings` by endpoint id."""
    until = written_until(time.time())
    rates = endpoint_rates(session, account_id, until - _MINUTE_S, until)
    return [EndpointRow(e, readings.get(e.id), rates.get(e.id, _IDLE)) for e in list_endpoints(session, account_id)]
