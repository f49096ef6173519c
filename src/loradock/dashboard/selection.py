"""Adapters that were ticked in a list: which they are, where they are attached, where they could be."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.orm import Session
from starlette.datastructures import FormData, QueryParams

from loradock.endpoints.attachments import may_take_adapters, same_base
from loradock.endpoints.rules import list_endpoints
from loradock.store.tables import Attachment, Deployment, Endpoint, Model
from loradock.types.enums import AttachmentState, EndpointState, ModelKind, ModelState

MOST = 5000
"""At once."""
_AT_ONCE = 500
"""Names in one query."""
_LONGEST_NAME = 200


@dataclass(frozen=True, slots=True)
class Ticked:
    """`endpoint`: (id, display name) of where it is attached."""

    name: str
    base: str | None
    endpoint: tuple[str, str] | None


@dataclass(frozen=True, slots=True)
class Target:
    """An endpoint that takes `fits` of the adapters that were ticked."""

    endpoint: Endpoint
    fits: int


def sent_names(form: FormData | QueryParams, field: str = "adapter") -> list[str]:
    """Boxes that were ticked, one field each, or all in one, which has no limit of fields."""
    words = [word for value in form.getlist(field) if isinstance(value, str) for word in value.split()]
    return [word for word in dict.fromkeys(words) if len(word) <= _LONGEST_NAME][:MOST]


def ticked(session: Session, account_id: str, names: Sequence[str]) -> list[Ticked]:
    """Those of the account's own that are ready, in the order of their names."""
    found: list[Ticked] = []
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
        found += [Ticked(n, b, (i, d) if i is not None else None) for n, b, i, d in session.execute(query).tuples()]
    return sorted(found, key=lambda one: one.name)


def places(adapters: Sequence[Ticked]) -> Counter[str]:
    """The endpoints' display names → how many of these are attached there."""
    return Counter(one.endpoint[1] for one in adapters if one.endpoint)


def targets(session: Session, account_id: str, adapters: Sequence[Ticked]) -> list[Target]:
    """Endpoints of the account that take some of these, those that take most first; none in ERROR."""
    bases = Counter(one.base for one in adapters)
    found = []
    for endpoint in list_endpoints(session, account_id):
        deployment = endpoint.deployment
        fits = sum(count for base, count in bases.items() if same_base(base, deployment.base_model))
        if fits and may_take_adapters(endpoint) and deployment.state is not EndpointState.ERROR:
            found.append(Target(endpoint, fits))
    running = EndpointState.STARTED
    return sorted(found, key=lambda target: (-target.fits, target.endpoint.deployment.state is not running))
