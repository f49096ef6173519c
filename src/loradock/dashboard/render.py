"""Pages from templates: Jinja with escaping on, and the few words and numbers that templates need."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from loradock import __version__
from loradock.dashboard import assets
from loradock.dashboard.base_path import prefix_of, prefixed
from loradock.dashboard.components.attach_meanings import MEANINGS
from loradock.dashboard.security import CSRF_FIELD
from loradock.store.tables import Job

NOTHING = "\N{EN DASH}"
_templates = Environment(
    loader=FileSystemLoader(Path(__file__).parent / "templates"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    auto_reload=False,
)


def page(request: Request, template: str, *, status: int = 200, **context: Any) -> HTMLResponse:
    """A whole page, or a fragment if the template is one."""
    html = fragment(template, me=getattr(request.state, "me", None), **context)
    return HTMLResponse(prefixed(html, prefix_of(request)), status)


def dialog(request: Request, template: str, *, status: int = 200, **context: Any) -> HTMLResponse:
    """The content of the page's dialog where a script asked for it, else a page of its own."""
    frame = "dialog_frame.html" if "hx-request" in request.headers else "dialog_page.html"
    return page(request, template, status=status, frame=frame, **context)


def go_to(request: Request, path: str) -> Response:
    """Answer a request that was carried out: show the page at `path`."""
    if "hx-request" in request.headers:  # htmx follows redirects by itself and would put the page into a fragment
        return Response(status_code=204, headers={"hx-redirect": path})
    return RedirectResponse(path, 303)


def fragment(template: str, **context: Any) -> str:
    context.setdefault("me", None)
    return _templates.get_template(template).render(context)


def size(count: int | None) -> str:
    """Bytes for people: 4.7 MB."""
    if count is None:
        return NOTHING
    value = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000:
            return f"{value:.0f} {unit}" if unit == "B" or value >= 100 else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} TB"


def number(value: float | None, digits: int = 0) -> str:
    """Format a number with thin spaces between thousands; a dash for nothing."""
    return NOTHING if value is None else f"{value:,.{digits}f}".replace(",", "\u202f")


def ago(moment: datetime | None) -> str:
    if moment is None:
        return NOTHING
    seconds = max(0.0, (datetime.now(UTC) - moment).total_seconds())
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{seconds / length:.0f} {unit} ago"
    return "just now"


def exactly(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%d %H:%M:%S UTC")


def moment(stamp: str) -> str:
    """Format a moment kept in JSON, like `exactly`."""
    return exactly(datetime.fromisoformat(stamp).astimezone(UTC))


def share(job: Job) -> float | None:
    """Return how much of the step that an upload is at has been done, from 0 to 1, where it is known."""
    progress = job.progress or {}
    return min(1.0, progress["done"] / progress["total"]) if progress.get("total") else None


_templates.filters.update(
    size=size, number=number, ago=ago, exactly=exactly, moment=moment, share=share, meaning=MEANINGS.__getitem__
)
_templates.globals.update(asset=assets.url, csrf_field=CSRF_FIELD, version=__version__)
