"""The adapters of an endpoint as a list to search, sort and page, however many there are."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Select, func, select
from sqlalchemy.orm import InstrumentedAttribute, Session
from starlette.datastructures import QueryParams

from loradock.dashboard.components.lists import Asked, Shown, read_asked
from loradock.store.tables import Attachment, Model, Revision
from loradock.telemetry.queries import AdapterUse
from loradock.types.enums import AttachmentState

SIZE = 25
_STORED: dict[str, ColumnElement[Any] | InstrumentedAttribute[Any]] = {
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
"""What the history tells and not the tables: column → its value; None last."""
ONLY = ("refused", "used", "idle")
_ROW = Model.name, Attachment.state, Revision.rank, Revision.size_bytes


@dataclass(frozen=True, slots=True)
class AdapterRow:
    name: str
    state: AttachmentState
    rank: int | None
    size: int


def read_adapters_asked(endpoint_id: str, query: QueryParams) -> Asked:
    return read_asked(
        f"/ui/endpoints/{endpoint_id}",
        query,
        sorts=(*_STORED, *_MEASURED),
        usual="-attached",
        filters={"only": ONLY},
        more=("span",),
    )


def adapters_of(
    session: Session,
    deployment_id: str,
    asked: Asked,
    uses: Mapping[str, AdapterUse],
    refused: Sequence[str],
    all: int,
) -> Shown[AdapterRow]:
    """`uses` by name; `refused` are those that a replica does not take."""
    wanted = _wanted(deployment_id, asked, uses, refused)
    total = session.scalar(_joined(select(func.count())).where(*wanted)) or 0
    start = (asked.page - 1) * SIZE
    if asked.column in _STORED:
        column = _STORED[asked.column]
        order = column.desc().nulls_last() if asked.descending else column.asc().nulls_last()
        page = _joined(select(*_ROW)).where(*wanted).order_by(order, Model.name).limit(SIZE).offset(start)
        rows = [AdapterRow(*row) for row in session.execute(page).tuples()]
    else:
        names = _by_use(session.scalars(_joined(select(Model.name)).where(*wanted)), asked, uses)[start : start + SIZE]
        page = _joined(select(*_ROW)).where(*wanted, Model.name.in_(names))
        found = {row[0]: AdapterRow(*row) for row in session.execute(page).tuples()}
        rows = [found[name] for name in names]
    return Shown(asked, rows, total, SIZE, all)


def attached_matching(
    session: Session, deployment_id: str, asked: Asked, uses: Mapping[str, AdapterUse], refused: Sequence[str]
) -> list[str]:
    """The names of all that match and are attached, on whatever page."""
    wanted = [*_wanted(deployment_id, asked, uses, refused), Attachment.state == AttachmentState.ATTACHED]
    return list(session.scalars(_joined(select(Model.name)).where(*wanted).order_by(Model.name)))


def _joined(query: Any) -> Select[Any]:
    joined: Select[Any] = (
        query.select_from(Attachment)
        .join(Model, Model.id == Attachment.model_id)
        .join(Revision, Revision.id == Attachment.revision_id)
    )
    return joined


def _wanted(
    deployment_id: str, asked: Asked, uses: Mapping[str, AdapterUse], refused: Sequence[str]
) -> list[ColumnElement[bool]]:
    wanted: list[ColumnElement[bool]] = [Attachment.deployment_id == deployment_id]
    if asked.text:
        wanted.append(Model.name.icontains(asked.text, autoescape=True))
    match asked.filters["only"]:
        case "refused":
            wanted.append(Model.name.in_(refused))
        case "used":
            wanted.append(Model.name.in_(list(uses)))
        case "idle":
            wanted.append(Model.name.not_in(list(uses)))
    return wanted


def _by_use(names: Iterable[str], asked: Asked, uses: Mapping[str, AdapterUse]) -> list[str]:
    """Those that nobody asked last, by name."""
    value = _MEASURED[asked.column]
    measured = {name: known for name, use in uses.items() if (known := value(use)) is not None}
    everyone = sorted(names)
    asked_of = sorted((n for n in everyone if n in measured), key=measured.__getitem__, reverse=asked.descending)
    return asked_of + [name for name in everyone if name not in measured]
