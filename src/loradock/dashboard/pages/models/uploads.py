"""Bringing a model in: the form, and an upload's steps as they happen.

Files are sent by static/upload.js to the API itself, with a progress bar; what lies elsewhere is a plain form.
"""

from collections import defaultdict
from dataclasses import dataclass, field
from urllib.parse import urlencode

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import FormData
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from loradock.dashboard.render import page
from loradock.dashboard.security import signed_in
from loradock.endpoints.attachments import same_base
from loradock.operations import models
from loradock.operations.access import job_for
from loradock.operations.services import Services
from loradock.queries.adapters import bases_of_adapters
from loradock.queries.attachments import attachment_of
from loradock.queries.endpoints import takers
from loradock.queries.models import model_by_id
from loradock.registry.uploads.upload_request import UploadRequest
from loradock.store.sessions import SignedIn
from loradock.store.tables import Endpoint, Job
from loradock.types.enums import EndpointState, ModelKind
from loradock.types.errors import BadRequest, LoradockError

_FIELDS = ("model_name", "model_source", "subfolder", "base_model", "description", "lora_model")


@dataclass(slots=True)
class Draft:
    """The form as it was filled in; `errors` by field. A hub token is never shown again."""

    model_name: str = ""
    model_type: ModelKind = ModelKind.ADAPTER
    model_source: str = ""
    subfolder: str = ""
    base_model: str = ""
    description: str = ""
    lora_model: str = ""
    errors: defaultdict[str, str] = field(default_factory=lambda: defaultdict(str))

    def request(self, token: str | None) -> UploadRequest:
        """Raises BadRequest."""
        if not self.model_source:
            raise BadRequest(
                "Name a Hugging Face repo, a URL or a file:// folder, or choose files.", param="model_source"
            )
        adapter = self.model_type is ModelKind.ADAPTER
        return UploadRequest(
            model_name=self.model_name,
            model_source=self.model_source,
            kind=self.model_type,
            base_model=self.base_model or None if adapter else None,
            lora_model=self.lora_model or None if adapter else None,
            hf_token=token,
            description=self.description or None,
            subfolder=self.subfolder or None,
        )


@signed_in
def form(request: Request, me: SignedIn) -> Response:
    asked = request.query_params
    draft = Draft(
        model_name=asked.get("name", ""),
        model_type=_kind(asked.get("type")),
        model_source=asked.get("source", ""),
        base_model=asked.get("base", ""),
        description=asked.get("description", ""),
        lora_model=asked.get("endpoint", ""),
    )
    return _form(request, me, draft)


@signed_in
async def submit(request: Request, me: SignedIn) -> Response:
    return await run_in_threadpool(_submit, request, me, await request.form())


@signed_in
def job(request: Request, me: SignedIn) -> Response:
    services: Services = request.app.state.services
    with services.database.session() as session:
        found = job_for(session, me.actor, request.path_params["id"])
        model = model_by_id(session, found.model_id)
        bound = attachment_of(session, model) if model else None
        return page(request, "job.html", job=found, model=model, bound=bound, again=_again(found))


def _submit(request: Request, me: SignedIn, sent: FormData) -> Response:
    services: Services = request.app.state.services
    values = {name: value.strip() for name, value in sent.items() if isinstance(value, str)}
    draft = Draft(
        model_name=values.get("model_name", ""),
        model_type=_kind(values.get("model_type")),
        model_source=values.get("model_source", ""),
        subfolder=values.get("subfolder", ""),
        base_model=values.get("base_model", ""),
        description=values.get("description", ""),
        lora_model=values.get("lora_model", ""),
    )
    try:
        started = models.upload(services, me.actor, draft.request(values.get("hf_token") or None))
    except LoradockError as error:
        draft.errors[error.param if error.param in _FIELDS else "model_source"] = error.message
        return _form(request, me, draft, status=422)
    return RedirectResponse(f"/ui/jobs/{started.id}", 303)


def _form(request: Request, me: SignedIn, draft: Draft, *, status: int = 200) -> Response:
    services: Services = request.app.state.services
    with services.database.session() as session:
        endpoints = sorted(takers(session, me.account_id), key=_rests)
        known = {*bases_of_adapters(session, me.account_id), *(e.deployment.base_model for e in endpoints)}
    bases = sorted(known | {base.name for base in services.bases.at_hand(me.account_id)})
    imports = services.settings.import_root is not None
    base = draft.base_model
    offered = [(e, not base or same_base(base, e.deployment.base_model)) for e in endpoints]
    return page(request, "upload.html", status=status, draft=draft, bases=bases, endpoints=offered, imports=imports)


def _rests(endpoint: Endpoint) -> bool:
    return endpoint.deployment.state is not EndpointState.STARTED


def _kind(word: str | None) -> ModelKind:
    return ModelKind(word) if word in list(ModelKind) else ModelKind.ADAPTER


def _again(job: Job) -> str:
    """The form's address with what this upload was asked for."""
    source = job.args.get("modelSource", "")
    parts = {
        "name": job.args.get("modelName", "").rpartition("/")[2],
        "type": job.type.removesuffix("_upload"),
        "source": "" if source == "upload" else source,
        "description": job.args.get("description", ""),
        "endpoint": job.args.get("loraModel", ""),
    }
    return "/ui/upload?" + urlencode({name: value for name, value in parts.items() if value})


routes = [
    Route("/ui/upload", form),
    Route("/ui/upload", submit, methods=["POST"]),
    Route("/ui/jobs/{id}", job),
]
