"""`/`: where everything stands, and what to do first."""

from sqlalchemy import func, select
from sqlalchemy.orm import Session
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from loradock.api.services import Services
from loradock.dashboard.components.attach_steps import TOLD
from loradock.dashboard.components.endpoint_rows import list_rows
from loradock.dashboard.components.lists import Asked
from loradock.dashboard.components.traffic import of_account
from loradock.dashboard.render import page
from loradock.dashboard.security import signed_in
from loradock.store.sessions import SignedIn
from loradock.store.tables import Attachment, Deployment, Endpoint, Event, Model
from loradock.types.enums import AttachmentState, EndpointState, ModelKind, ModelState

_EVENTS = 8
_ENDPOINTS = 8


@signed_in
def overview(request: Request, me: SignedIn) -> Response:
    services: Services = request.app.state.services
    with services.database.session() as session:
        endpoints = list_rows(session, me.account_id, Asked("/ui/endpoints", "state", "state"), {}, _ENDPOINTS)
        return page(
            request,
            "overview.html",
            endpoints=endpoints,
            started=_started(session, me.account_id),
            adapters=_adapters(session, me.account_id),
            attached=_attached(session, me.account_id),
            traffic=of_account(session, me.account_id),
            events=_newest(session, me.account_id),
        )


def _started(session: Session, account_id: str) -> int:
    query = select(func.count(Endpoint.id)).join(Deployment, Deployment.endpoint_id == Endpoint.id)
    started = Endpoint.account_id == account_id, Deployment.state == EndpointState.STARTED
    return session.scalar(query.where(*started)) or 0


def _adapters(session: Session, account_id: str) -> int:
    own = Model.account_id == account_id, Model.kind == ModelKind.ADAPTER, Model.state == ModelState.READY
    return session.scalar(select(func.count()).select_from(Model).where(*own)) or 0


def _attached(session: Session, account_id: str) -> int:
    query = select(func.count()).select_from(Attachment).join(Model)
    own = Model.account_id == account_id, Attachment.state == AttachmentState.ATTACHED
    return session.scalar(query.where(*own)) or 0


def _newest(session: Session, account_id: str) -> list[Event]:
    query = select(Event).where(Event.account_id == account_id, TOLD)
    return list(session.scalars(query.order_by(Event.id.desc()).limit(_EVENTS)))


def front(_: Request) -> Response:
    return RedirectResponse("/", 308)


routes = [Route("/", overview), Route("/ui", front), Route("/ui/", front)]
