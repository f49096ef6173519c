"""The page of one model: an adapter of the account, or a base model at hand."""

from sqlalchemy.orm import Session
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from loradock.dashboard.components.call_code import Call, api_url, snippets
from loradock.dashboard.components.traffic import of_model
from loradock.dashboard.render import page
from loradock.dashboard.security import signed_in
from loradock.operations.services import Services
from loradock.queries.attachments import attachment_of
from loradock.queries.endpoints import endpoints_of_base
from loradock.queries.events import newest_events_of
from loradock.queries.jobs import newest_jobs
from loradock.queries.models import count_for_base
from loradock.registry.bases.base_models import LocalBaseModel
from loradock.registry.details import AdapterFacts, adapter_facts, files_of
from loradock.store.models import find_model
from loradock.store.sessions import SignedIn
from loradock.store.tables import Model, Revision
from loradock.types.enums import ModelKind, ModelState
from loradock.types.errors import AdapterRefused, ModelMissing

_EVENTS = 8
_ENDPOINTS = 20
_HELLO = [{"role": "user", "content": "Hello!"}]


@signed_in
def show(request: Request, me: SignedIn) -> Response:
    services: Services = request.app.state.services
    name = name_of(request)
    with services.database.session() as session:
        model = find_model(session, me.account_id, name)
        if model is not None and model.name != name:
            return RedirectResponse(f"/ui/models/{model.name}", 301)
        if model is not None and model.state is ModelState.UPLOADING:
            job = newest_jobs(session, me.account_id, [model.id]).get(model.id)
            return page(request, "model_uploading.html", model=model, job=job)
        if model is not None and model.kind is ModelKind.ADAPTER:
            return _adapter(request, services, session, model)
        base = services.bases.find(name, me.account_id)
        if base is None:
            return _elsewhere(request, session, me, name)
        return _base(request, services, session, me, base, model)


def name_of(request: Request) -> str:
    """The model's name that the address spells: `<account>/<short name>`, or a base model's."""
    return "/".join(value for part in ("account", "name") if (value := request.path_params.get(part)))


def _adapter(request: Request, services: Services, session: Session, model: Model) -> Response:
    revision = model.revisions[-1]
    facts, damage = _facts(services, revision)
    return page(
        request,
        "adapter.html",
        model=model,
        revision=revision,
        facts=facts,
        damage=damage,
        files=files_of(services.blobs.path(revision.digest)),
        attachment=attachment_of(session, model),
        traffic=of_model(session, model.account_id, model.name),
        events=newest_events_of(session, model.id, _EVENTS),
        snippets=snippets(Call(api_url(request), model.name, _HELLO, {"max_tokens": 128})),
    )


def _facts(services: Services, revision: Revision) -> tuple[AdapterFacts | None, str | None]:
    """Return what the files say, or how they were damaged since."""
    try:
        return adapter_facts(services.blobs.path(revision.digest)), None
    except AdapterRefused as error:
        return None, error.message


def _base(
    request: Request, services: Services, session: Session, me: SignedIn, base: LocalBaseModel, own: Model | None
) -> Response:
    return page(
        request,
        "base_model.html",
        base=base,
        own=own,
        architecture=services.bases.architecture(base.name, me.account_id),
        files=files_of(base.path),
        endpoints=endpoints_of_base(session, me.account_id, base.name, _ENDPOINTS),
        adapters=count_for_base(session, me.account_id, base.name),
        events=newest_events_of(session, own.id, _EVENTS) if own else [],
    )


def _elsewhere(request: Request, session: Session, me: SignedIn, name: str) -> Response:
    """A base model that is not on this machine, where something of the account's own is for it. Raises ModelMissing."""
    endpoints = endpoints_of_base(session, me.account_id, name, _ENDPOINTS)
    adapters = count_for_base(session, me.account_id, name)
    if not endpoints and not adapters:
        raise ModelMissing
    return page(request, "base_elsewhere.html", name=name, endpoints=endpoints, adapters=adapters)


routes = [Route("/ui/models/{name}", show), Route("/ui/models/{account}/{name}", show)]
