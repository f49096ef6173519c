"""Correcting what base model an adapter is for, without another upload."""

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from loradock.dashboard.pages.models.model import name_of
from loradock.dashboard.render import dialog, go_to
from loradock.dashboard.security import signed_in
from loradock.operations import models
from loradock.operations.access import adapter_for
from loradock.operations.services import Services
from loradock.store.sessions import SignedIn
from loradock.types.access import Action
from loradock.types.errors import LoradockError, ModelMissing


@signed_in
def ask(request: Request, me: SignedIn) -> Response:
    return _form(request, me)


@signed_in
async def correct(request: Request, me: SignedIn) -> Response:
    wanted = str((await request.form()).get("base_model") or "").strip()
    try:
        await run_in_threadpool(models.change_base, request.app.state.services, me.actor, name_of(request), wanted)
    except ModelMissing:
        raise
    except LoradockError as error:
        return await run_in_threadpool(_form, request, me, wanted, error.message)
    return go_to(request, f"/ui/models/{name_of(request)}")


def _form(request: Request, me: SignedIn, wanted: str = "", error: str | None = None) -> Response:
    services: Services = request.app.state.services
    with services.database.session() as session:
        adapter = adapter_for(session, me.actor, Action.READ, name_of(request))
        return dialog(
            request,
            "adapter_base.html",
            status=422 if error else 200,
            model=adapter,
            fitting=models.fitting(services, adapter),
            wanted=wanted,
            error=error,
        )


routes = [
    Route("/ui/models/{account}/{name}/base", ask),
    Route("/ui/models/{account}/{name}/base", correct, methods=["POST"]),
]
