"""Static files under names that change with their content, so that browsers may keep them for ever."""

from functools import cache
from hashlib import blake2b
from pathlib import Path

from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

ICON = "/favicon.ico"
"""The path where browsers look for an icon without being told."""
_FOLDER = Path(__file__).parent / "static"


@cache
def version() -> str:
    """Return one version of all files together: one changed file renames all, which upgrades do seldom enough."""
    content = blake2b(digest_size=6)
    for file in sorted(_FOLDER.rglob("*.*")):
        content.update(file.read_bytes())
    return content.hexdigest()


def url(name: str) -> str:
    return f"/ui/static/{version()}/{name}"


def icon(_: Request) -> Response:
    return FileResponse(_FOLDER / "favicon.ico", headers={"cache-control": "public, max-age=86400"})


class Files(StaticFiles):
    """Serves `<version>/<file>`; whatever version is asked for gets the file there is."""

    def __init__(self, folder: Path) -> None:
        super().__init__(directory=folder)

    async def get_response(self, path: str, scope: Scope) -> Response:
        asked, _, name = path.partition("/")
        response = await super().get_response(name, scope)
        fresh = response.status_code == 200 and asked == version()
        response.headers["cache-control"] = "public, max-age=31536000, immutable" if fresh else "no-store"
        return response
