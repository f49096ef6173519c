"""The command that shows what the engines of an endpoint write."""

import time
from typing import Annotated, Any

import typer
from rich.text import Text

from loradock.cli.client import DEFAULT_URL, ApiKeyOption, BaseUrl, Client, ServerError, segment
from loradock.cli.output import JsonFlag, console, print_json
from loradock.cli.references import endpoint_id
from loradock.cli.tables import printable
from loradock.types.errors import NotFound

_POLL_SECONDS = 1.0


def logs(
    endpoint: Annotated[str, typer.Argument(metavar="ENDPOINT", help="Its id, name or display name.")],
    replica: Annotated[str | None, typer.Option(help="Only of this one; see `endpoints replicas`.")] = None,
    lines: Annotated[int, typer.Option("--lines", "-n", min=0, max=2000, help="How many of each replica.")] = 100,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with what is written, until Ctrl-C.")] = False,
    json_output: JsonFlag = False,
    base_url: BaseUrl = DEFAULT_URL,
    api_key: ApiKeyOption = None,
) -> None:
    """Show what its engines wrote. Also the last that were lost."""
    client = Client(base_url, api_key)
    path = f"/v1/endpoints/{segment(endpoint_id(client, endpoint))}/logs"
    found = client.call("GET", path, replica=replica, lines=lines)["data"]
    if json_output and not follow:
        print_json({"object": "list", "data": found})
        return
    if not found and not follow:
        console.print("No replica has written anything: none runs.")
    ends: dict[str, int] = {}
    _print(found, ends)
    while follow:
        time.sleep(_POLL_SECONDS)
        for known in client.call("GET", path, replica=replica, lines=0)["data"]:
            if known["end"] > ends.get(known["replica"], 0):
                _print(_since(client, path, known["replica"], ends), ends)


def _since(client: Client, path: str, replica: str, ends: dict[str, int]) -> list[dict[str, Any]]:
    try:
        found: list[dict[str, Any]] = client.call("GET", path, replica=replica, after=ends.get(replica, 0))["data"]
    except ServerError as error:
        if error.type == NotFound.type:  # it was dropped from the list meanwhile
            return []
        raise
    return found


def _print(parts: list[dict[str, Any]], ends: dict[str, int]) -> None:
    """Each line with its replica in front once there are several."""
    for part in parts:
        ends[part["replica"]] = part["end"]
    for part in parts:
        before = f"{part['replica']}  " if len(ends) > 1 else ""
        for line in part["text"].splitlines():
            console.print(Text(f"{before}{printable(line)}"), soft_wrap=True)
