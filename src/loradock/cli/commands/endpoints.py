"""Endpoints from the command line."""

import shlex
from typing import Annotated, Any

import typer

from loradock.cli.client import DEFAULT_URL, ApiKeyOption, BaseUrl, Client, segment
from loradock.cli.finding import hint
from loradock.cli.listing import Limit, Search, Sort, page
from loradock.cli.output import JsonFlag, Yes, ask, console, print_fields, print_json, print_table
from loradock.cli.references import endpoint_id
from loradock.cli.tables import Column
from loradock.cli.times import when, zone_name
from loradock.cli.usage import UsageProblem
from loradock.cli.waiting import wait_for
from loradock.types.enums import EndpointQuantization, EndpointState, EngineKind

app = typer.Typer(help="Create and run endpoints, attach adapters to them.", no_args_is_help=True)
_AT_LEAST = typer.Option(help="How many replicas run at least.")
_AT_MOST = typer.Option(help="How many replicas run at most, as requests in flight ask for.")
_DISPLAY_NAME = typer.Option(help="What you call it: free text, which these commands take as well as its id.")
Wakes = Annotated[
    bool | None, typer.Option("--wake/--no-wake", help="A request to it while it is stopped starts it and waits.")
]
Rank = Annotated[int | None, typer.Option(help="The highest rank an adapter may have.")]
Bits = Annotated[
    EndpointQuantization | None,
    typer.Option(help="Keep weights in 8 or 4 bits: faster, less memory; none: in 16; default: as the server's."),
]
Wait = Annotated[bool, typer.Option("--wait", help="Wait until it is there.")]
Reference = Annotated[str, typer.Argument(metavar="ENDPOINT", help="Its id, name or display name.")]
_FIELDS = (
    "id",
    "name",
    "display_name",
    "state",
    "message",
    "model",
    "hardware",
    "autoscaling",
    "inactive_timeout",
    "auto_start",
    "lora_enabled",
    "max_lora_rank",
    "engine",
    "quantization",
    "visibility",
    "created_at",
)
_BITS = {"none": "16", "int8": "8", "int4": "4"}


@app.command("create")
def create(
    model: Annotated[str, typer.Argument(help="The base model, e.g. HuggingFaceTB/SmolLM2-135M-Instruct.")],
    hardware: Annotated[str, typer.Option(help="See `loradock endpoints hardware`; default: this machine's.")] = "",
    display_name: Annotated[str | None, _DISPLAY_NAME] = None,
    min_replicas: Annotated[int, _AT_LEAST] = 1,
    max_replicas: Annotated[int, _AT_MOST] = 1,
    inactive_timeout: Annotated[int | None, typer.Option(help="Minutes without a request before it stops.")] = None,
    lora: Annotated[bool, typer.Option("--lora/--no-lora", help="Whether adapters may be attached.")] = True,
    start_now: Annotated[bool, typer.Option("--start/--no-auto-start", help="Whether it starts at once.")] = True,
    wake: Wakes = None,
    max_lora_rank: Rank = None,
    engine: Annotated[EngineKind | None, typer.Option(help="What runs it; default: by the hardware.")] = None,
    quantization: Bits = None,
    wait: Wait = False,
    json_output: JsonFlag = False,
    base_url: BaseUrl = DEFAULT_URL,
    api_key: ApiKeyOption = None,
) -> None:
    """Create an endpoint for a base model and start it."""
    client = Client(base_url, api_key)
    body = {
        "model": model,
        "hardware": hardware,
        "display_name": display_name,
        "autoscaling": {"min_replicas": min_replicas, "max_replicas": max_replicas},
        "inactive_timeout": inactive_timeout,
        "lora_enabled": lora,
        "state": "STARTED" if start_now else "STOPPED",
        "auto_start": wake,
        "max_lora_rank": max_lora_rank,
        "engine": engine,
        "quantization": quantization,
    }
    endpoint = client.call("POST", "/v1/endpoints", body)
    if wait and start_now:
        endpoint = wait_for(client, endpoint["id"], EndpointState.STARTED, quiet=json_output)
    _show(endpoint, json_output, "Endpoint created.")


@app.command("list")
@app.command("ls", hidden=True)
def index(
    search: Search = None,
    sort: Sort = None,
    limit: Limit = None,
    json_output: JsonFlag = False,
    base_url: BaseUrl = DEFAULT_URL,
    api_key: ApiKeyOption = None,
) -> None:
    """List your endpoints."""
    endpoints = Client(base_url, api_key).call("GET", "/v1/endpoints", **page(search, sort, limit))["data"]
    if json_output:
        print_json(endpoints)
        return
    empty = f"No endpoints yet. Create one: {hint('endpoints create HuggingFaceTB/SmolLM2-135M-Instruct --wait')}"
    print_table(
        (
            Column("STATE"),
            Column("NAME"),
            Column("DISPLAY NAME", rank=1, folds=True),
            Column("BITS", rank=4),
            Column("ID", rank=3),
            Column(f"CREATED ({zone_name()})", rank=2),
        ),
        map(_row, endpoints),
        empty if search is None else f"No endpoint has {search!r} in it.",
        [e["message"] for e in endpoints],
    )


def _row(endpoint: dict[str, Any]) -> list[Any]:
    bits = _BITS.get(endpoint.get("quantization") or "", "vLLM")
    created = when(endpoint["created_at"])
    return [endpoint["state"], endpoint["name"], _own_name(endpoint), bits, endpoint["id"], created]


def _own_name(endpoint: dict[str, Any]) -> str:
    """Return the display name; nothing where none was given."""
    shown: str = endpoint["display_name"]
    return "" if shown == endpoint["name"] else shown


@app.command("retrieve")
@app.command("get", hidden=True)
def retrieve(
    endpoint: Reference, json_output: JsonFlag = False, base_url: BaseUrl = DEFAULT_URL, api_key: ApiKeyOption = None
) -> None:
    """Show one endpoint."""
    client = Client(base_url, api_key)
    _show(client.call("GET", _path(client, endpoint)), json_output)


@app.command("update")
def update(
    endpoint: Reference,
    display_name: Annotated[str | None, _DISPLAY_NAME] = None,
    min_replicas: Annotated[int | None, _AT_LEAST] = None,
    max_replicas: Annotated[int | None, _AT_MOST] = None,
    inactive_timeout: Annotated[int | None, typer.Option(help="Minutes; 0 for never.")] = None,
    lora: Annotated[bool | None, typer.Option("--lora/--no-lora", help="Whether adapters may be attached.")] = None,
    wake: Wakes = None,
    max_lora_rank: Rank = None,
    quantization: Bits = None,
    json_output: JsonFlag = False,
    base_url: BaseUrl = DEFAULT_URL,
    api_key: ApiKeyOption = None,
) -> None:
    """Change settings of an endpoint."""
    scaling = {"min_replicas": min_replicas, "max_replicas": max_replicas}
    scaling = {key: value for key, value in scaling.items() if value is not None}
    body: dict[str, Any] = {
        "display_name": display_name,
        "inactive_timeout": inactive_timeout,
        "lora_enabled": lora,
        "auto_start": wake,
        "max_lora_rank": max_lora_rank,
        "quantization": quantization,
    }
    body = {key: value for key, value in body.items() if value is not None} | (
        {"autoscaling": scaling} if scaling else {}
    )
    if not body:
        raise UsageProblem(f"nothing to change: see `{hint('endpoints update --help')}` for what can be")
    client = Client(base_url, api_key)
    _show(client.call("PATCH", _path(client, endpoint), body), json_output, "Updated.")


@app.command("start")
def start(
    endpoint: Reference,
    wait: Wait = False,
    json_output: JsonFlag = False,
    base_url: BaseUrl = DEFAULT_URL,
    api_key: ApiKeyOption = None,
) -> None:
    """Start a stopped endpoint."""
    _set_state(Client(base_url, api_key), endpoint, EndpointState.STARTED, wait, json_output)


@app.command("stop")
def stop(
    endpoint: Reference,
    wait: Wait = False,
    json_output: JsonFlag = False,
    base_url: BaseUrl = DEFAULT_URL,
    api_key: ApiKeyOption = None,
) -> None:
    """Stop an endpoint; its settings and attachments stay."""
    _set_state(Client(base_url, api_key), endpoint, EndpointState.STOPPED, wait, json_output)


@app.command("delete")
def delete(
    endpoint: Reference,
    detach: Annotated[bool, typer.Option("--detach", help="Also one with adapters, which are detached.")] = False,
    yes: Yes = False,
    json_output: JsonFlag = False,
    base_url: BaseUrl = DEFAULT_URL,
    api_key: ApiKeyOption = None,
) -> None:
    """Delete an endpoint that has no adapters attached."""
    client = Client(base_url, api_key)
    path = _path(client, endpoint)
    if detach and not json_output:
        count = len(client.call("GET", f"{path}/adapters")["data"])
        ask(f"Delete {endpoint} and detach its {count} adapters? Requests that name them will be refused.", yes=yes)
    client.call("DELETE", path, detach="true" if detach else None)
    print_json({"id": endpoint, "deleted": True}) if json_output else console.print("Endpoint deleted.")


@app.command("replicas")
def replicas(
    endpoint: Reference, json_output: JsonFlag = False, base_url: BaseUrl = DEFAULT_URL, api_key: ApiKeyOption = None
) -> None:
    """Show replicas, and where they keep adapters."""
    client = Client(base_url, api_key)
    found = client.call("GET", f"{_path(client, endpoint)}/replicas")
    if json_output:
        print_json(found)
        return
    rows = (
        [r["state"], r["id"], str(r["in_flight"]), *map(str, r["adapters"].values()), _memory(r["memory"])]
        for r in found["data"]
    )
    empty = f"No replicas run. Start it: {hint(f'endpoints start {shlex.quote(endpoint)}')}"
    columns = ("STATE", "ID", "IN FLIGHT", Column("ACTIVE", rank=1), Column("RAM", rank=1), Column("DISK", rank=1))
    print_table((*columns, Column("MEMORY", rank=1)), rows, empty, [r["message"] for r in found["data"]])


def _memory(memory: dict[str, int | None]) -> str:
    """Format the memory taken, of what was planned."""
    used, planned = (f"{(memory[part] or 0) / 2**30:.1f}" for part in ("used", "planned"))
    return f"{used} of {planned} GiB" if memory["planned"] else f"{used} GiB"


@app.command("hardware")
def hardware(json_output: JsonFlag = False, base_url: BaseUrl = DEFAULT_URL, api_key: ApiKeyOption = None) -> None:
    """What this server can run endpoints on."""
    found = Client(base_url, api_key).call("GET", "/v1/hardware", model="any")["data"]
    if json_output:
        print_json(found)
        return
    rows = (
        [h["id"], h["specs"]["gpu_type"], f"{h['specs']['gpu_memory']} GiB", h["availability"]["status"]] for h in found
    )
    print_table(("ID", "KIND", "MEMORY", "STATUS"), rows, "This server reports no hardware.")


@app.command("availability-zones")
def zones(json_output: JsonFlag = False, base_url: BaseUrl = DEFAULT_URL, api_key: ApiKeyOption = None) -> None:
    """Where endpoints can run."""
    found = Client(base_url, api_key).call("GET", "/v1/clusters/availability-zones")
    print_json(found) if json_output else console.print("\n".join(found["avzones"]))


def _path(client: Client, reference: str) -> str:
    return f"/v1/endpoints/{segment(endpoint_id(client, reference))}"


def _set_state(client: Client, reference: str, state: EndpointState, wait: bool, json_output: bool) -> None:
    endpoint = client.call("PATCH", _path(client, reference), {"state": state})
    if wait:
        endpoint = wait_for(client, endpoint["id"], state, quiet=json_output)
    _show(endpoint, json_output, f"{endpoint['name']} is {endpoint['state']}.")


def _show(endpoint: dict[str, Any], json_output: bool, done: str = "") -> None:
    if json_output:
        print_json(endpoint)
        return
    if done:
        console.print(f"[green]✓[/green] {done}")
    print_fields(endpoint, _FIELDS)
