"""`/`: where everything stands, and what to do first."""

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from loradock.dashboard.components.endpoint_rows import list_rows
from loradock.dashboard.components.lists import Asked
from loradock.dashboard.components.traffic import of_account
from loradock.dashboard.render import page
from loradock.dashboard.security import signed_in
from loradock.operations.services import Services
from loradock.queries.attachments import count_attached
from loradock.queries.endpoints import count_started
from loradock.queries.events import newest_events
from loradock.queries.models import count_ready_adapters
from loradock.store.sessions import SignedIn

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
            started=count_started(session, me.account_id),
            adapters=count_ready_adapters(session, me.account_id),
            attached=count_attached(session, me.account_id),
            traffic=of_account(session, me.account_id),
            events=newest_events(session, me.account_id, _EVENTS),
        )


def front(_: Request) -> Response:
    return RedirectResponse("/", 308)


routes = [Route("/", overview), Route("/ui", front), Route("/ui/", front)]
