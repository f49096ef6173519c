"""Some adapters by their names: where they are attached, where they could be."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.orm import Session

from loradock.endpoints.attachments import same_base
from loradock.queries.endpoints import takers
from loradock.store.tables import Attachment, Deployment, Endpoint, Model
from loradock.types.enums import AttachmentState, EndpointState, ModelKind, ModelState

_AT_ONCE = 500
"""Names in one query."""


@dataclass(frozen=True, slots=True)
class PlacedAdapter:
    """`endpoint`: (id, display name) of where it is attached."""

    name: str
    base: str | None
    endpoint: tuple[str, str] | None


@dataclass(frozen=True, slots=True)
class Target:
    """An endpoint that takes `fits` of some adapters."""

    endpoint: Endpoint
    fits: int


def ready_adapters(session: Session, account_id: str, names: Sequence[str]) -> list[PlacedAdapter]:
    """Return those of the account's own that are ready, in the order of their names."""
    found: list[PlacedAdapter] = []
    for start in range(0, len(names), _AT_ONCE):
        query = (
            select(Model.name, Model.base_model, Endpoint.id, Endpoint.display_name)
            .outerjoin(Attachment, (Attachment.model_id == Model.id) & (Attachment.state != AttachmentState.DETACHING))
            .outerjoin(Deployment, Attachment.deployment_id == Deployment.id)
            .outerjoin(Endpoint, Deployment.endpoint_id == Endpoint.id)
            .where(
                Model.account_id == account_id,
                Model.kind == ModelKind.ADAPTER,
                Model.state == ModelState.READY,
                Model.name.in_(names[start : start + _AT_ONCE]),
            )
        )
        for name, base, endpoint_id, shown in session.execute(query):
            found.append(PlacedAdapter(name, base, (endpoint_id, shown) if endpoint_id is not None else None))
    return sorted(found, key=lambda one: one.name)


def places(adapters: Sequence[PlacedAdapter]) -> Counter[str]:
    """The endpoints' display names → how many of these are attached there."""
    return Counter(one.endpoint[1] for one in adapters if one.endpoint)


def targets(session: Session, account_id: str, adapters: Sequence[PlacedAdapter]) -> list[Target]:
    """Endpoints of the account that take some of these, those that take most first; none in ERROR."""
    bases = Counter(one.base for one in adapters)
    found = []
    for endpoint in takers(session, account_id):
        runs = endpoint.deployment.base_model
        if fits := sum(count for base, count in bases.items() if same_base(base, runs)):
            found.append(Target(endpoint, fits))
    running = EndpointState.STARTED
    return sorted(found, key=lambda target: (-target.fits, target.endpoint.deployment.state is not running))
