"""The CLI's way to a running server."""

from typing import TYPE_CHECKING, Annotated, Any, NoReturn
from urllib.parse import quote

import typer
from rich.markup import escape

from loradock.cli.finding import local_key, server_url
from loradock.cli.output import complaints
from loradock.cli.usage import UsageProblem, program
from loradock.types.errors import BadRequest, LoradockError

if TYPE_CHECKING:
    import httpx

_HELP = "Connection"
BaseUrl = Annotated[
    str,
    typer.Option(
        "--base-url",
        envvar="LORADOCK_BASE_URL",
        help="The server's URL; default: by LORADOCK_HOST and LORADOCK_PORT, or as its data folder says.",
        show_default=False,
        rich_help_panel=_HELP,
    ),
]
ApiKeyOption = Annotated[
    str | None, typer.Option("--api-key", envvar="LORADOCK_API_KEY", help="Your key.", rich_help_panel=_HELP)
]
DEFAULT_URL = ""
"""Found out (cli.finding) when it is needed."""


class NoServer(BadRequest):
    """No server answers."""


class ServerError(LoradockError):
    """The server refused."""


class Client:
    """JSON in, JSON out. Raises LoradockError with the server's own words."""

    def __init__(self, base_url: str, api_key: str | None) -> None:
        import httpx  # here, so that `--help` does not wait for it

        self.base_url = (base_url or server_url()).rstrip("/").removesuffix("/v1")
        headers = {"Authorization": f"Bearer {_checked(api_key or local_key())}"}
        try:
            self._http = httpx.Client(base_url=self.base_url, headers=headers, timeout=httpx.Timeout(600, connect=5))
        except (httpx.InvalidURL, ValueError) as error:
            raise UsageProblem(
                f"{self.base_url!r} is not a valid URL ({error}): check --base-url or LORADOCK_BASE_URL"
            ) from error

    def call(self, method: str, path: str, body: Any = None, **params: Any) -> Any:
        query = {key: value for key, value in params.items() if value is not None}
        return self.send(self._http.build_request(method, path, json=body, params=query))

    def upload(self, path: str, fields: dict[str, str], files: list[tuple[str, Any]]) -> Any:
        """`files`: (field, (file name, readable))."""
        return self.send(self._http.build_request("POST", path, data=fields, files=files))

    def send(self, request: "httpx.Request") -> Any:
        import httpx

        try:
            response = self._http.send(request)
        except httpx.UnsupportedProtocol as error:
            raise UsageProblem(
                f"{self.base_url!r} is not an http:// or https:// URL: check --base-url or LORADOCK_BASE_URL"
            ) from error
        except httpx.TransportError as error:
            raise NoServer(
                f"no server answers at {self.base_url} ({error}). Start one with: {program()} serve,"
                " or say where it is: --base-url, or --data-dir with its data folder"
            ) from error
        if response.status_code >= 400:
            raise _error(response)
        answer = self._read(response) if response.content else None
        for warning in (answer or {}).get("warnings") or ():
            complaints.print("[yellow]Warning:[/yellow]", escape(warning["message"]), soft_wrap=True)
        return answer

    def _read(self, response: "httpx.Response") -> dict[str, Any]:
        words = f"{self.base_url} answers, but not as Loradock does: check --base-url or LORADOCK_BASE_URL"

        class Answer(dict[str, Any]):
            def __missing__(self, key: str) -> NoReturn:
                raise BadRequest(words)

        try:
            answer = response.json(object_hook=Answer)
        except ValueError as error:
            raise BadRequest(words) from error
        if not isinstance(answer, Answer):
            raise BadRequest(words)
        return answer


def _checked(key: str) -> str:
    """Raises BadRequest for what no header can carry."""
    if not (key.isascii() and key.isprintable()):
        raise BadRequest("the API key has characters no key has: copy it again (--api-key or LORADOCK_API_KEY)")
    return key


def segment(name: str) -> str:
    """An id or name as one path segment."""
    return quote(name, safe="")


def _error(response: "httpx.Response") -> LoradockError:
    try:
        details = response.json()["error"]
        error = ServerError(details["message"], param=details.get("param"), detail=details.get("detail"))
        error.type, error.code = details["type"], details.get("code")  # type: ignore[misc]
    except (ValueError, KeyError, TypeError):
        return ServerError(f"{response.request.url} answered {response.status_code}: {response.text[:300]}")
    return error
