"""Attaching adapters to an endpoint and detaching them, from the endpoint's own page: one or many at once."""

from sqlalchemy import ColumnElement, func, select
from sqlalchemy.orm import Session, selectinload
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from loradock.dashboard import actions as deeds
from loradock.dashboard.components.endpoint_adapters import attached_matching, read_adapters_asked
from loradock.dashboard.components.endpoint_view import refused_by, uses_of
from loradock.dashboard.pages.endpoints.endpoint import own_endpoint
from loradock.dashboard.pages.models.bulk import attaching, begin, detaching
from loradock.dashboard.render import dialog, go_to
from loradock.dashboard.security import signed_in
from loradock.dashboard.selection import sent_names
from loradock.endpoints.attachments import same_base
from loradock.operations.access import endpoint_for
from loradock.operations.services import Services
from loradock.registry.listing import bases_of_adapters
from loradock.store.sessions import SignedIn
from loradock.store.tables import Attachment, Endpoint, Model
from loradock.types.access import Action
from loradock.types.enums import AttachmentState, ModelKind, ModelState
from loradock.types.errors import BadRequest, LoradockError

_CHOICES = 50
"""Adapters to choose from at once; the search narrows them."""


@signed_in
def attach_form(request: Request, me: SignedIn) -> Response:
    return _attach_dialog(request, me, sent_names(request.query_params))


@signed_in
async def attach(request: Request, me: SignedIn) -> Response:
    services: Services = request.app.state.services
    names = sent_names(await request.form())
    endpoint = await run_in_threadpool(own_endpoint, request, me)
    if len(names) > 1:
        back = f"/ui/endpoints/{endpoint.id}"
        return begin(request, *attaching(services, me, endpoint.id, endpoint.display_name, names, back))
    try:
        if not names:
            raise BadRequest("Tick the adapters to attach.", param="model_id")
        await deeds.attach(services, me, endpoint.id, names[0])
    except LoradockError as error:
        return await run_in_threadpool(_attach_dialog, request, me, names, error)
    return _changed(request, endpoint.id)


@signed_in
async def detach_form(request: Request, me: SignedIn) -> Response:
    names = sent_names(request.query_params)
    if request.query_params.get("all"):
        services: Services = request.app.state.services
        endpoint = await run_in_threadpool(own_endpoint, request, me)
        refused = refused_by(await services.controller.replicas(endpoint.deployment.id))
        names = await run_in_threadpool(_all, request, me, refused)
    return await run_in_threadpool(_detach_dialog, request, me, names)


@signed_in
async def detach(request: Request, me: SignedIn) -> Response:
    services: Services = request.app.state.services
    names = sent_names(await request.form())
    endpoint = await run_in_threadpool(own_endpoint, request, me)
    if len(names) > 1:
        back = f"/ui/endpoints/{endpoint.id}"
        return begin(request, *detaching(services, me, endpoint.id, endpoint.display_name, names, back))
    try:
        if not names:
            raise BadRequest("Tick the adapters to detach.", param="model_id")
        await deeds.detach(services, me, names[0], endpoint.id)
    except LoradockError as error:
        return await run_in_threadpool(_detach_dialog, request, me, names, error)
    return _changed(request, endpoint.id)


def _attach_dialog(request: Request, me: SignedIn, chosen: list[str], error: LoradockError | None = None) -> Response:
    """What is chosen stands first, whatever is searched for, so that nothing is chosen that nobody sees."""
    services: Services = request.app.state.services
    text = request.query_params.get("q", "").strip()[:200]
    with services.database.session() as session:
        endpoint = endpoint_for(session, me.actor, Action.READ, request.path_params["id"])
        free = _attachable(session, me.account_id, endpoint)
        ticked = _models(session, [*free, Model.name.in_(chosen)], len(chosen)) if chosen else []
        others = [*free, Model.name.not_in(chosen), Model.name.icontains(text, autoescape=True)]
        return dialog(
            request,
            "endpoint_attach.html",
            status=422 if error else 200,
            endpoint=endpoint,
            chosen=ticked,
            adapters=_models(session, others, _CHOICES),
            matching=_count(session, others),
            all=_count(session, free),
            text=text,
            error=error,
        )


def _attachable(session: Session, account_id: str, endpoint: Endpoint) -> list[ColumnElement[bool]]:
    """Own adapters for this base, by whatever name of it, that are attached nowhere."""
    bases = [name for name in bases_of_adapters(session, account_id) if same_base(name, endpoint.deployment.base_model)]
    bound = select(Attachment.model_id).where(Attachment.state != AttachmentState.DETACHING)
    return [
        Model.account_id == account_id,
        Model.kind == ModelKind.ADAPTER,
        Model.state == ModelState.READY,
        Model.base_model.in_(bases),
        Model.id.not_in(bound),
    ]


def _models(session: Session, wanted: list[ColumnElement[bool]], most: int) -> list[Model]:
    query = select(Model).where(*wanted).options(selectinload(Model.revisions))
    return list(session.scalars(query.order_by(Model.created_at.desc(), Model.name).limit(most)))


def _count(session: Session, wanted: list[ColumnElement[bool]]) -> int:
    return session.scalar(select(func.count(Model.id)).where(*wanted)) or 0


def _detach_dialog(request: Request, me: SignedIn, names: list[str], error: LoradockError | None = None) -> Response:
    endpoint = own_endpoint(request, me)
    status = 422 if error else 200
    return dialog(request, "endpoint_detach.html", status=status, endpoint=endpoint, adapters=names, error=error)


def _all(request: Request, me: SignedIn, refused: list[str]) -> list[str]:
    """Those that match what the list was asked for, on whatever page."""
    services: Services = request.app.state.services
    with services.database.session() as session:
        endpoint = endpoint_for(session, me.actor, Action.READ, request.path_params["id"])
        asked = read_adapters_asked(endpoint.id, request.query_params)
        uses = uses_of(session, me.account_id, endpoint.id) if asked.filters["only"] else {}
        return attached_matching(session, endpoint.deployment.id, asked, uses, refused)


def _changed(request: Request, endpoint_id: str) -> Response:
    """The page behind the dialog is live: it only has to be seen again."""
    if "hx-request" in request.headers:
        return Response(status_code=204, headers={"hx-trigger": "dialog-done"})
    return go_to(request, f"/ui/endpoints/{endpoint_id}")


routes = [
    Route("/ui/endpoints/{id}/attach", attach_form),
    Route("/ui/endpoints/{id}/attach", attach, methods=["POST"]),
    Route("/ui/endpoints/{id}/detach", detach_form),
    Route("/ui/endpoints/{id}/detach", detach, methods=["POST"]),
]
