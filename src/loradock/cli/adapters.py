"""Docking adapters onto endpoints."""

from typing import Annotated, Any

import typer

from loradock.cli.client import DEFAULT_URL, ApiKeyOption, BaseUrl, Client, segment
from loradock.cli.output import JsonFlag, console, print_json, print_table
from loradock.cli.references import endpoint_id
from loradock.types.names import combined_id

app = typer.Typer(help="Attach adapters to a running endpoint, list and remove them.", no_args_is_help=True)
Endpoint = Annotated[str, typer.Argument(metavar="ENDPOINT", help="Its id, name or display name.")]
Adapter = Annotated[
    str, typer.Argument(metavar="ADAPTER", help="The adapter's name, or <endpoint name>:<adapter name>.")
]


@app.command("add")
def add(
    endpoint: Endpoint,
    adapter: Adapter,
    json_output: JsonFlag = False,
    base_url: BaseUrl = DEFAULT_URL,
    api_key: ApiKeyOption = None,
) -> None:
    """Attach an adapter; requests can name it as soon as this returns."""
    client = Client(base_url, api_key)
    reference = endpoint_id(client, endpoint)
    body = {"model_id": _combined(client, reference, adapter)}
    answer = client.call("POST", f"/v1/endpoints/{segment(reference)}/adapters", body)
    print_json(answer) if json_output else console.print(f"[green]✓[/green] Attached: {answer['model_id']}")


@app.command("list")
@app.command("ls", hidden=True)
def index(
    endpoint: Endpoint, json_output: JsonFlag = False, base_url: BaseUrl = DEFAULT_URL, api_key: ApiKeyOption = None
) -> None:
    """List the adapters attached to an endpoint."""
    client = Client(base_url, api_key)
    answer = client.call("GET", f"/v1/endpoints/{segment(endpoint_id(client, endpoint))}/adapters")
    if json_output:
        print_json(answer)
        return
    rows = ([a["adapter_name"], _kept(a), a["model_id"]] for a in answer["data"])
    empty = f"No adapters attached yet. Attach one: loradock endpoints adapters add {endpoint} <adapter>"
    print_table(("ADAPTER", "KEPT IN", "MODEL ID"), rows, empty)


@app.command("remove")
@app.command("rm", hidden=True)
@app.command("delete", hidden=True)
def remove(
    endpoint: Endpoint,
    adapter: Adapter,
    json_output: JsonFlag = False,
    base_url: BaseUrl = DEFAULT_URL,
    api_key: ApiKeyOption = None,
) -> None:
    """Detach an adapter; running requests finish, the upload stays."""
    client = Client(base_url, api_key)
    reference = endpoint_id(client, endpoint)
    body = {"model_id": _combined(client, reference, adapter)}
    answer = client.call("DELETE", f"/v1/endpoints/{segment(reference)}/adapters", body)
    print_json(answer) if json_output else console.print(f"[green]✓[/green] Removed: {answer['model_id']}")


def _combined(client: Client, endpoint: str, adapter: str) -> str:
    if ":" in adapter:
        return adapter
    name = client.call("GET", f"/v1/endpoints/{segment(endpoint)}")["name"]
    return combined_id(name, adapter)


def _kept(adapter: dict[str, Any]) -> str:
    refused = f"not served: {adapter['message']}" if adapter["message"] else "-"
    return ", ".join(adapter["replicas"].values()) or refused
