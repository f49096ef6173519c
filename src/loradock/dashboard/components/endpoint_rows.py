"""What the list of endpoints shows of each."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, case, func, or_, select
from sqlalchemy.orm import Session, contains_eager

from loradock.dashboard.components.endpoint_view import written_until
from loradock.dashboard.components.lists import PAGE_SIZE, Asked, Shown
from loradock.store.tables import Attachment, Deployment, Endpoint
from loradock.telemetry.queries import Rates, endpoint_rates
from loradock.telemetry.readings import Reading
from loradock.types.enums import AttachmentState, EndpointState

_MINUTE_S = 60
_IDLE = Rates(0.0, 0.0)
_FIRST_TO_LAST = (
    EndpointState.STARTED,
    EndpointState.STARTING,
    EndpointState.PENDING,
    EndpointState.ERROR,
    EndpointState.STOPPING,
    EndpointState.STOPPED,
)
RUNNING_FIRST = case({state: number for number, state in enumerate(_FIRST_TO_LAST)}, value=Deployment.state)
_ATTACHED = (
    select(func.count(Attachment.id))
    .where(Attachment.deployment_id == Deployment.id, Attachment.state != AttachmentState.DETACHING)
    .scalar_subquery()
)
SORTS: dict[str, ColumnElement[Any]] = {
    "state": RUNNING_FIRST,
    "name": func.lower(Endpoint.display_name),
    "base": func.lower(Deployment.base_model),
    "adapters": _ATTACHED,
    "created": Endpoint.created_at.expression,
}


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
    own = Endpoint.account_id == account_id
    wanted = [own, *_wanted(asked)]
    column = SORTS[asked.column]
    order = column.desc() if asked.descending else column.asc()
    query = select(Endpoint, _ATTACHED).join(Deployment, Deployment.endpoint_id == Endpoint.id).where(*wanted)
    query = query.order_by(order, Endpoint.created_at.desc(), Endpoint.id).limit(size).offset((asked.page - 1) * size)
    found = session.execute(query.options(contains_eager(Endpoint.deployments))).unique().tuples()
    rows = [EndpointRow(e, attached, readings.get(e.id), rates.get(e.id, _IDLE)) for e, attached in found]
    count = select(func.count(Endpoint.id)).join(Deployment, Deployment.endpoint_id == Endpoint.id)
    total, all = (session.scalar(count.where(*conditions)) or 0 for conditions in (wanted, [own]))
    return Shown(asked, rows, total, size, all)


def _wanted(asked: Asked) -> list[ColumnElement[bool]]:
    wanted: list[ColumnElement[bool]] = []
    if asked.text:
        columns = (Endpoint.display_name, Endpoint.name, Endpoint.id, Deployment.base_model)
        wanted.append(or_(*(column.icontains(asked.text, autoescape=True) for column in columns)))
    if state := asked.filters.get("state"):
        wanted.append(Deployment.state == EndpointState(state.upper()))
    return wanted
