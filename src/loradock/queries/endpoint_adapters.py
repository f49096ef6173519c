"""The adapters of an endpoint as a list, however many there are."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from sqlalchemy import ColumnElement, Select, func, select
from sqlalchemy.orm import Session

from loradock.queries.lists import Column, ListQuery, cut, has_text, ordered
from loradock.store.tables import Attachment, Model, Revision
from loradock.telemetry.queries import AdapterUse
from loradock.types.enums import AttachmentState

_STORED: dict[str, Column] = {
    "name": func.lower(Model.name),
    "attached": Attachment.created_at,
    "rank": Revision.rank,
    "size": Revision.size_bytes,
}
_MEASURED: dict[str, Callable[[AdapterUse], float | None]] = {
    "requests": lambda use: use.requests,
    "tokens": lambda use: use.completion_tokens,
    "ttft": lambda use: use.ttft_p50_ms,
    "per_token": lambda use: use.per_token_p50_ms,
}
"""Columns that the history tells and not the tables: column → its value; None last."""
SORTS = (*_STORED, *_MEASURED)
_ROW = Model.name, Attachment.state, Revision.rank, Revision.size_bytes


class Only(StrEnum):
    """A filter: adapters that a replica does not take, that were asked, that were not."""

    REFUSED = "refused"
    USED = "used"
    IDLE = "idle"


@dataclass(frozen=True, slots=True)
class EndpointAdapters:
    """A choice of an endpoint's adapters. `uses`: what is known of their traffic, by name; `refused`: by a replica."""

    deployment_id: str
    uses: Mapping[str, AdapterUse]
    refused: Collection[str]
    only: Only | None = None


@dataclass(frozen=True, slots=True)
class AdapterRow:
    name: str
    state: AttachmentState
    rank: int | None
    size: int


def search_endpoint_adapters(
    session: Session, which: EndpointAdapters, query: ListQuery
) -> tuple[Sequence[AdapterRow], int]:
    """A page of them and how many match in all."""
    wanted = _wanted(which, query.text)
    total = session.scalar(_joined(select(func.count())).where(*wanted)) or 0
    if query.column in _STORED:
        order = ordered(_STORED[query.column], query).nulls_last()
        page = cut(_joined(select(*_ROW)).where(*wanted).order_by(order, Model.name), query)
        return [AdapterRow(*row) for row in session.execute(page)], total
    names = _by_use(session.scalars(_joined(select(Model.name)).where(*wanted)), which, query)
    names = names[query.start : query.start + query.size]
    page = _joined(select(*_ROW)).where(*wanted, Model.name.in_(names))
    found = {row[0]: AdapterRow(*row) for row in session.execute(page)}
    return [found[name] for name in names], total


def attached_matching(session: Session, which: EndpointAdapters, text: str) -> list[str]:
    """The names of all that match and are attached, on whatever page."""
    wanted = [*_wanted(which, text), Attachment.state == AttachmentState.ATTACHED]
    return list(session.scalars(_joined(select(Model.name)).where(*wanted).order_by(Model.name)))


def _joined(query: Any) -> Select[Any]:
    joined: Select[Any] = (
        query.select_from(Attachment)
        .join(Model, Model.id == Attachment.model_id)
        .join(Revision, Revision.id == Attachment.revision_id)
    )
    return joined


def _wanted(which: EndpointAdapters, text: str) -> list[ColumnElement[bool]]:
    wanted = [Attachment.deployment_id == which.deployment_id, *has_text(text, [Model.name])]
    match which.only:
        case Only.REFUSED:
            wanted.append(Model.name.in_(which.refused))
        case Only.USED:
            wanted.append(Model.name.in_(list(which.uses)))
        case Only.IDLE:
            wanted.append(Model.name.not_in(list(which.uses)))
    return wanted


def _by_use(names: Iterable[str], which: EndpointAdapters, query: ListQuery) -> list[str]:
    """Sort by use; adapters that nobody asked come last, by name."""
    value = _MEASURED[query.column]
    measured = {name: known for name, use in which.uses.items() if (known := value(use)) is not None}
    everyone = sorted(names)
    asked_of = sorted((n for n in everyone if n in measured), key=measured.__getitem__, reverse=query.descending)
    return asked_of + [name for name in everyone if name not in measured]
