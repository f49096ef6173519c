"""Deploy adapter to endpoint: choose one that is running, see the attach steps, then how to call it."""

import asyncio
from dataclasses import dataclass

from sqlalchemy.orm import Session
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from loradock.dashboard.pages.models.model import name_of
from loradock.dashboard.render import dialog
from loradock.dashboard.security import signed_in
from loradock.endpoints.attachments import binding, deploy_targets
from loradock.operations import adapters, models
from loradock.operations.access import adapter_for, endpoint_for
from loradock.operations.services import Services
from loradock.queries.attach_steps import newest_event, steps_since
from loradock.queries.attachments import attachment_of, count_by_deployment
from loradock.store.sessions import SignedIn
from loradock.store.tables import Model
from loradock.types.access import Action
from loradock.types.enums import EndpointState
from loradock.types.errors import BadRequest, EndpointNotRunning, LoradockError
from loradock.types.names import combined_id

_PATIENCE_S = 0.8
"""An attach that takes longer is followed step by step."""


@dataclass(frozen=True, slots=True)
class Begun:
    """An attach about to start; the events after `since` are its own."""

    adapter: str
    endpoint: str
    model_id: str
    since: int


@signed_in
def choose(request: Request, me: SignedIn) -> Response:
    with _services(request).database.session() as session:
        return _form(request, session, adapter_for(session, me.actor, Action.READ, name_of(request)))


@signed_in
async def deploy(request: Request, me: SignedIn) -> Response:
    """Waits for the attach: to its end without scripts, else as long as nobody would ask what it is doing."""
    services = _services(request)
    chosen = (await request.form()).get("endpoint")
    scripted = "hx-request" in request.headers
    begun: Begun | None = None
    try:
        begun = await run_in_threadpool(_begin, services, me, name_of(request), str(chosen or ""))
        attaching = adapters.attach(services, me.actor, begun.endpoint, begun.model_id)
        await asyncio.wait_for(attaching, _PATIENCE_S if scripted else None)
    except TimeoutError:
        assert begun is not None
        return await run_in_threadpool(_progress, request, me, begun.since)
    except LoradockError as error:
        return await run_in_threadpool(_refused, request, me, error, str(chosen or ""))
    if not scripted:
        return RedirectResponse(f"/ui/models/{begun.adapter}/deployed?since={begun.since}", 303)
    return await run_in_threadpool(_progress, request, me, begun.since)


@signed_in
def deployed(request: Request, me: SignedIn) -> Response:
    """Show how far the attach has come whose events follow `since`."""
    since = request.query_params.get("since", "")
    return _progress(request, me, int(since) if since.isdecimal() and len(since) < 19 else 0)


def _begin(services: Services, me: SignedIn, name: str, chosen: str) -> Begun:
    """Raises the errors of a target that is gone or no longer runs."""
    with services.database.session() as session:
        adapter = adapter_for(session, me.actor, Action.ATTACH, name)
        if not chosen:
            raise BadRequest("Select an endpoint first.")
        endpoint = endpoint_for(session, me.actor, Action.ATTACH, chosen)
        state = endpoint.deployment.state
        if state is not EndpointState.STARTED:
            raise EndpointNotRunning(name=endpoint.display_name, state=state.lower(), id=endpoint.id)
        model_id = combined_id(endpoint.name, adapter.name)
        return Begun(adapter.name, endpoint.id, model_id, newest_event(session, adapter))


def _progress(request: Request, me: SignedIn, since: int) -> Response:
    with _services(request).database.session() as session:
        adapter = adapter_for(session, me.actor, Action.READ, name_of(request))
        bound = attachment_of(session, adapter)
        steps = steps_since(session, adapter, since)
        response = dialog(request, "deployed.html", model=adapter, attachment=bound, steps=steps, since=since)
        response.headers["hx-trigger"] = "changed"
        return response


def _refused(request: Request, me: SignedIn, error: LoradockError, chosen: str) -> Response:
    with _services(request).database.session() as session:
        adapter = adapter_for(session, me.actor, Action.READ, name_of(request))
        return _form(request, session, adapter, error=error.whole, chosen=chosen)


def _form(
    request: Request, session: Session, adapter: Model, *, error: str | None = None, chosen: str = ""
) -> Response:
    targets = deploy_targets(session, adapter)
    return dialog(
        request,
        "deploy.html",
        status=422 if error else 200,
        model=adapter,
        rank=adapter.revisions[-1].rank or 0,
        targets=targets,
        attached=count_by_deployment(session, [endpoint.deployment.id for endpoint in targets]),
        bound=binding(session, adapter),
        error=error,
        chosen=chosen,
        fitting=[] if targets else _fitting(_services(request), adapter),
    )


def _fitting(services: Services, adapter: Model) -> list[str]:
    """Base models here that it fits by its shapes, where its own is not here."""
    if services.bases.find(adapter.base_model or "", adapter.account_id) is not None:
        return []
    return models.fitting(services, adapter)


def _services(request: Request) -> Services:
    services: Services = request.app.state.services
    return services


routes = [
    Route("/ui/models/{account}/{name}/deploy", choose),
    Route("/ui/models/{account}/{name}/deploy", deploy, methods=["POST"]),
    Route("/ui/models/{account}/{name}/deployed", deployed),
]
