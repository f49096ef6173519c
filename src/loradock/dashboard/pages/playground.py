"""The playground: one prompt to several adapters of an endpoint, the answers side by side, and the code for it."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field

from sqlalchemy.orm import Session
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import FormData, QueryParams
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from loradock.dashboard.components.call_code import Call, api_url, snippets
from loradock.dashboard.render import page
from loradock.dashboard.security import signed_in
from loradock.endpoints.rules import attached_names, list_endpoints
from loradock.operations.services import Services
from loradock.store.sessions import SignedIn
from loradock.store.tables import Endpoint
from loradock.types.enums import EndpointState

_EXAMPLE = "Tell me about rain."
_AT_FIRST = 3
"""Adapters chosen beside the base when nobody has chosen yet."""
_NUMBERS: dict[str, type[int] | type[float]] = {"temperature": float, "top_p": float, "max_tokens": int, "seed": int}
_LONGEST = 20_000
_LISTED = 100
"""Adapters to choose from at once; a search finds the others."""
_DEFAULTS = {"temperature": "0.7", "top_p": "1", "max_tokens": "128", "seed": ""}


@dataclass(frozen=True, slots=True)
class Choice:
    """The values of the form. `options` as typed; those that are no numbers are left to the engine to refuse."""

    models: list[str]
    system: str = ""
    prompt: str = _EXAMPLE
    options: dict[str, str] = field(default_factory=dict)
    history: list[dict[str, str]] = field(default_factory=list)
    """The messages so far of the conversation that goes on."""


@signed_in
def playground(request: Request, me: SignedIn) -> Response:
    services: Services = request.app.state.services
    asked = request.query_params
    with services.database.session() as session:
        endpoints = list_endpoints(session, me.account_id)
        endpoint = _chosen(endpoints, asked.get("endpoint"), asked.get("model"), session)
        adapters = attached_names(session, endpoint) if endpoint else []
        choice = _choice(asked, endpoint, adapters)
        text = asked.get("q", "").strip()[:200]
        offered, more = _offered(adapters, choice.models, text)
        return page(
            request,
            "playground.html",
            endpoints=endpoints,
            endpoint=endpoint,
            adapters=len(adapters),
            offered=offered,
            more=more,
            text=text,
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


def _offered(adapters: list[str], chosen: list[str], text: str) -> tuple[list[str], int]:
    """Return which adapters are listed, and how many more there are: what is chosen always is, whatever is searched
    for."""
    matching = [name for name in adapters if name in chosen or text.lower() in name.lower()]
    if len(matching) <= _LISTED:
        return matching, 0
    first = [name for name in matching if name in chosen]
    rest = [name for name in matching if name not in chosen][: max(0, _LISTED - len(first))]
    return first + rest, len(matching) - len(first) - len(rest)


def _choice(asked: QueryParams, endpoint: Endpoint | None, adapters: list[str]) -> Choice:
    choice = _read(asked)
    known = [endpoint.name, *adapters] if endpoint else []
    models = [model for model in known if model in choice.models]
    options = {name: choice.options[name] or _DEFAULTS[name] for name in _NUMBERS}
    picked = models if asked.get("picked") else models or known[: 1 + _AT_FIRST]
    return Choice(picked, choice.system, choice.prompt or _EXAMPLE, options)


def _read(form: QueryParams | FormData) -> Choice:
    texts = {name: _text(form, name) for name in ("system", "prompt", *_NUMBERS)}
    models = [model for model in form.getlist("model") if isinstance(model, str) and len(model) <= _LONGEST]
    options = {name: texts[name] for name in _NUMBERS}
    return Choice(models, texts["system"], texts["prompt"], options, _history(form))


def _history(form: QueryParams | FormData) -> list[dict[str, str]]:
    try:
        said = json.loads(_text(form, "history") or "[]")
        return [{"role": str(turn["role"]), "content": str(turn["content"])} for turn in said]
    except (ValueError, TypeError, KeyError, RecursionError):  # none of the playground's own, or cut off
        return []


def _text(form: QueryParams | FormData, name: str) -> str:
    value = form.get(name, "")
    return value[:_LONGEST] if isinstance(value, str) else ""


def _call(request: Request, choice: Choice) -> Call:
    messages = [{"role": "system", "content": choice.system}] if choice.system else []
    messages += choice.history
    if choice.prompt or not choice.history:
        messages.append({"role": "user", "content": choice.prompt or _EXAMPLE})
    elif messages[-1]["role"] == "assistant":
        messages.pop()  # nothing new is asked: the request that was answered last
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
