"""Decides whose traffic an account may see: its own calls anywhere, and every call to an endpoint of its own."""

from typing import Any

from sqlalchemy import ColumnElement, Select, or_, select
from sqlalchemy.orm import Session

from loradock.store.tables import Endpoint
from loradock.store.usage import UsageRow


def owns(session: Session, account_id: str, endpoint_id: str) -> bool:
    query = select(Endpoint.id).where(Endpoint.id == endpoint_id, Endpoint.account_id == account_id)
    return session.scalar(query) is not None


def own_endpoints(account_id: str) -> Select[Any]:
    """Return the ids of its endpoints, as a subquery."""
    return select(Endpoint.id).where(Endpoint.account_id == account_id)


def own_calls(account_id: str) -> ColumnElement[bool]:
    return UsageRow.account_id == account_id


def visible(account_id: str) -> ColumnElement[bool]:
    return or_(own_calls(account_id), UsageRow.endpoint_id.in_(own_endpoints(account_id)))
