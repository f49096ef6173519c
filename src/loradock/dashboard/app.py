"""The dashboard as one ASGI application: `/`, `/ui/…`, and the API for scripts of its own pages."""

from pathlib import Path

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Mount, Route

from loradock.dashboard import assets, errors
from loradock.dashboard.base_path import BelowPath
from loradock.dashboard.live import Live
from loradock.dashboard.pages import events, jobs, keys, overview, playground, sign_in, usage
from loradock.dashboard.pages.endpoints import attaching, endpoint, endpoint_logs, endpoint_power, endpoints
from loradock.dashboard.pages.models import bulk, deploying, detaching, model, models, rebasing, uploads
from loradock.dashboard.runs import Runs
from loradock.dashboard.security import SecurityHeaders, who
from loradock.operations.services import Services
from loradock.types.errors import LoradockError

_ROUTES: list[Route | Mount] = [
    *sign_in.routes,
    *overview.routes,
    *models.routes,
    *model.routes,
    *deploying.routes,
    *detaching.routes,
    *rebasing.routes,
    *uploads.routes,
    *jobs.routes,
    *keys.routes,
    *endpoints.routes,
    *endpoint.routes,
    *endpoint_power.routes,
    *endpoint_logs.routes,
    *attaching.routes,
    *bulk.routes,
    *playground.routes,
    *usage.routes,
    *events.routes,
    Route(assets.ICON, assets.icon),
    Mount("/ui/static", app=assets.Files(Path(__file__).parent / "static"), name="static"),
]


def dashboard(services: Services) -> Starlette:
    app = Starlette(
        routes=_ROUTES,
        middleware=[
            Middleware(SecurityHeaders),
            Middleware(GZipMiddleware, minimum_size=1000, compresslevel=5),
            Middleware(BelowPath),
        ],
        exception_handlers={404: _missing, 405: _missing, LoradockError: errors.page, Exception: errors.unexpected},
    )
    app.router.redirect_slashes = False
    app.state.services = services
    app.state.live = Live()
    app.state.runs = Runs()
    return app


def belongs(path: str) -> bool:
    """Whether a path is the dashboard's."""
    return path in ("/", assets.ICON) or path == "/ui" or path.startswith("/ui/")


def close(app: Starlette) -> None:
    """The server stops: end what would not end by itself."""
    app.state.live.close()
    app.state.runs.close()


async def _missing(request: Request, _: Exception) -> Response:
    request.state.me = await run_in_threadpool(who, request, request.app.state.services)
    return errors.nothing_here(request)
