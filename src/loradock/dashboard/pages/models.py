"""My Models: the list, and one model."""

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from loradock.api.services import Services
from loradock.dashboard.render import page
from loradock.dashboard.security import signed_in
from loradock.registry.models import list_models
from loradock.store.sessions import SignedIn


@signed_in
def index(request: Request, me: SignedIn) -> Response:
    services: Services = request.app.state.services
    with services.database.session() as session:
        return page(request, "models.html", models=list_models(session, me.account_id))


routes = [Route("/ui/models", index)]
