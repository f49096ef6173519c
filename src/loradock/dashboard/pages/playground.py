"""The playground: one prompt to several adapters of an endpoint, the answers side by side, and the code for it."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from sqlalchemy.orm import Session
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import FormData, QueryParams
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from loradock.api.services import Services
from loradock.dashboard.call_code import Call, api_url, snippets
from loradock.dashboard.render import page
from loradock.dashboard.security import signed_in
from loradock.endpoints.rules import attached_names, list_endpoints
from loradock.store.sessions import SignedIn
from loradock.store.tables import Endpoint
from loradock.types.enums import EndpointState

_EXAMPLE = "Tell me about rain."
_AT_FIRST = 3
"""Adapters chosen beside the base when nobody has chosen yet."""
_NUMBERS: dict[str, type[int] | type[float]] = {"temperature": float, "top_p": float, "max_tokens": int, "seed": int}
_LONGEST = 20_000
_DEFAULTS = {"temperature": "0.7", "top_p": "1", "max_tokens": "128", "seed": ""}


@dataclass(frozen=True, slots=True)
class Choice:
    """What the form says. `options` as typed; those that are no numbers are left to the engine to refuse."""

    models: list[str]
    system: str = ""
    prompt: str = _EXAMPLE
    options: dict[str, str] = field(default_factory=dict)


@signed_in
def playground(request: Request, me: SignedIn) -> Response:
    services: Services = request.app.state.services
    asked = request.query_params
    with services.database.session() as session:
        endpoints = list_endpoints(session, me.account_id)
        endpoint = _chosen(endpoints, asked.get("endpoint"), asked.get("model"), session)
        adapters = attached_names(session, endpoint) if endpoint else []
        choice = _choice(asked, endpoint, adapters)
        return page(
            request,
            "playground.html",
            endpoints=endpoints,
            endpoint=endpoint,
            adapters=adapters,
            choice=choice,
            snippets=snippets(_call(request, choice)),
        )


@signed_in
async def code(request: Request, me: SignedIn) -> Response:
    """The code for what the form says now."""
    choice = _read(await request.form())
    return await run_in_threadpool(page, request, "playground_code.html", snippets=snippets(_call(request, choice)))


def _chosen(endpoints: Sequence[Endpoint], asked: str | None, model: str | None, session: Session) -> Endpoint | None:
    """The endpoint asked for, else the one that serves the model asked for, else one that runs."""
    for endpoint in endpoints:
        if asked in (endpoint.id, endpoint.name):
            return endpoint
    if model:
        for endpoint in endpoints:
            if model == endpoint.name or model in attached_names(session, endpoint):
                return endpoint
    running = [endpoint for endpoint in endpoints if endpoint.deployment.state is EndpointState.STARTED]
    return next(iter(running or endpoints), None)


def _choice(asked: QueryParams, endpoint: Endpoint | None, adapters: list[str]) -> Choice:
    choice = _read(asked)
    known = [endpoint.name, *adapters] if endpoint else []
    models = [model for model in known if model in choice.models]
    options = {name: choice.options[name] or _DEFAULTS[name] for name in _NUMBERS}
    return Choice(models or known[: 1 + _AT_FIRST], choice.system, choice.prompt or _EXAMPLE, options)


def _read(form: QueryParams | FormData) -> Choice:
    texts = {name: _text(form, name) for name in ("system", "prompt", *_NUMBERS)}
    models = [model for model in form.getlist("model") if isinstance(model, str) and len(model) <= _LONGEST]
    return Choice(models, texts["system"], texts["prompt"], {name: texts[name] for name in _NUMBERS})


def _text(form: QueryParams | FormData, name: str) -> str:
    value = form.get(name, "")
    return value[:_LONGEST] if isinstance(value, str) else ""


def _call(request: Request, choice: Choice) -> Call:
    messages = [{"role": "system", "content": choice.system}] if choice.system else []
    messages.append({"role": "user", "content": choice.prompt or _EXAMPLE})
    options = {name: number for name, text in choice.options.items() if (number := _number(name, text)) is not None}
    # An adapter is what people come for: the base only when nothing else is chosen.
    model = next(iter(choice.models[1:] or choice.models), "<model>")
    return Call(api_url(request), model, messages, options)


def _number(name: str, text: str) -> float | int | None:
    try:
        number = _NUMBERS[name](text)
        return int(number) if number == int(number) else number
    except (ValueError, OverflowError):  # no number, or one that is none of JSON's
        return None


routes = [Route("/ui/playground", playground), Route("/ui/playground/code", code, methods=["POST"])]
