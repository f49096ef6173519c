"""Endpoints as a list, and those that a page or a route asks for."""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import case, func, or_, select
from sqlalchemy.orm import Session, contains_eager

from loradock.endpoints.attachments import may_take_adapters
from loradock.endpoints.rules import list_endpoints
from loradock.queries.lists import Column, Found, ListQuery, cut, has_text, ordered
from loradock.store.tables import Attachment, Deployment, Endpoint
from loradock.types.enums import AttachmentState, EndpointState

_FIRST_TO_LAST = (
    EndpointState.STARTED,
    EndpointState.STARTING,
    EndpointState.PENDING,
    EndpointState.ERROR,
    EndpointState.STOPPING,
    EndpointState.STOPPED,
)
_RUNNING_FIRST = case({state: number for number, state in enumerate(_FIRST_TO_LAST)}, value=Deployment.state)
_ATTACHED = (
    select(func.count(Attachment.id))
    .where(Attachment.deployment_id == Deployment.id, Attachment.state != AttachmentState.DETACHING)
    .scalar_subquery()
)
_COLUMNS: dict[str, Column] = {
    "state": _RUNNING_FIRST,
    "name": func.lower(Endpoint.display_name),
    "base": func.lower(Deployment.base_model),
    "adapters": _ATTACHED,
    "created": Endpoint.created_at,
}
SORTS = tuple(_COLUMNS)
_TEXTS = Endpoint.display_name, Endpoint.name, Endpoint.id, Deployment.base_model
_COUNT = select(func.count(Endpoint.id)).join(Deployment, Deployment.endpoint_id == Endpoint.id)


@dataclass(frozen=True, slots=True)
class ListedEndpoint:
    """`attached`: how many adapters are, those that are leaving left out."""

    endpoint: Endpoint
    attached: int


def search_endpoints(
    session: Session, account_id: str, query: ListQuery, state: EndpointState | None = None
) -> Found[ListedEndpoint]:
    own = Endpoint.account_id == account_id
    wanted = [own, *has_text(query.text, _TEXTS)]
    if state is not None:
        wanted.append(Deployment.state == state)
    page = select(Endpoint, _ATTACHED).join(Deployment, Deployment.endpoint_id == Endpoint.id).where(*wanted)
    page = page.order_by(ordered(_COLUMNS[query.column], query), Endpoint.created_at.desc(), Endpoint.id)
    found = session.execute(cut(page, query).options(contains_eager(Endpoint.deployments))).unique()
    rows = [ListedEndpoint(endpoint, attached) for endpoint, attached in found]
    total, all = (session.scalar(_COUNT.where(*conditions)) or 0 for conditions in (wanted, [own]))
    return Found(rows, total, all)


def count_started(session: Session, account_id: str) -> int:
    started = Endpoint.account_id == account_id, Deployment.state == EndpointState.STARTED
    return session.scalar(_COUNT.where(*started)) or 0


def endpoints_of_base(session: Session, account_id: str, base: str, most: int) -> Sequence[Endpoint]:
    """Return the endpoints that run the base model, running ones first."""
    query = select(Endpoint).join(Deployment).where(Deployment.base_model == base)
    query = query.where(Endpoint.account_id == account_id).order_by(_RUNNING_FIRST, Endpoint.created_at.desc())
    return session.scalars(query.limit(most)).all()


def count_by_base(session: Session, account_id: str) -> dict[str, int]:
    """Base model → how many endpoints run it."""
    query = select(Deployment.base_model, func.count()).join(Endpoint).where(Endpoint.account_id == account_id)
    return dict(session.execute(query.group_by(Deployment.base_model)).all())


def takers(session: Session, account_id: str) -> list[Endpoint]:
    """Return the endpoints that could take an adapter, the newest first; none in ERROR."""
    return [
        endpoint
        for endpoint in list_endpoints(session, account_id)
        if may_take_adapters(endpoint) and endpoint.deployment.state is not EndpointState.ERROR
    ]


def names_by_id(session: Session, account_id: str) -> dict[str, str]:
    query = select(Endpoint.id, Endpoint.name).where(Endpoint.account_id == account_id)
    return dict(session.execute(query).all())


def id_of(session: Session, account_id: str, name: str) -> str | None:
    """Return the id of the endpoint that has this name, or is shown by it."""
    query = select(Endpoint.id).where(Endpoint.account_id == account_id)
    return session.scalar(query.where(or_(Endpoint.name == name, Endpoint.display_name == name)))
