"""Adapters on endpoints: attach, detach, list, and as a file says."""

import shlex
from pathlib import Path
from typing import Annotated, Any

import typer

from loradock.cli.client import DEFAULT_URL, ApiKeyOption, BaseUrl, Client, segment
from loradock.cli.commands import bulk, sync
from loradock.cli.commands.attaching import Target, attached_names
from loradock.cli.finding import hint
from loradock.cli.listing import Limit, Search, Sort, page
from loradock.cli.output import JsonFlag, Yes, ask, console, print_json, print_table
from loradock.cli.references import endpoint_id
from loradock.cli.tables import Column
from loradock.cli.usage import UsageProblem

app = typer.Typer(help="Attach, list and detach adapters.", no_args_is_help=True)
Endpoint = Annotated[str, typer.Argument(metavar="ENDPOINT", help="Its id, name or display name.")]
Adapters = Annotated[
    list[str], typer.Argument(metavar="ADAPTER…", help="Names of adapters, or <endpoint name>:<adapter name>.")
]
SomeAdapters = Annotated[list[str] | None, typer.Argument(metavar="[ADAPTER…]", help="Names of adapters.")]


@app.command("attach")
@app.command("add", hidden=True)
def attach(
    endpoint: Endpoint,
    adapters: Adapters,
    json_output: JsonFlag = False,
    base_url: BaseUrl = DEFAULT_URL,
    api_key: ApiKeyOption = None,
) -> None:
    """Attach adapters; requests can name them as soon as this returns."""
    target = Target(Client(base_url, api_key), endpoint)
    if len(adapters) > 1:
        outcomes = bulk.each(_once(adapters), "attached", target.attach, quiet=json_output)
        bulk.conclude(outcomes, json_output=json_output)
        return
    answer = target.attach(adapters[0])
    if json_output:
        print_json(answer)
        return
    name = answer["model_id"].rpartition(":")[2]
    console.print(f"[green]✓[/green] Attached: {name}", soft_wrap=True)
    console.print(f"  Call it by that name, or as {answer['model_id']}", soft_wrap=True)


@app.command("list")
@app.command("ls", hidden=True)
def index(
    endpoint: Endpoint,
    search: Search = None,
    sort: Sort = None,
    limit: Limit = None,
    json_output: JsonFlag = False,
    base_url: BaseUrl = DEFAULT_URL,
    api_key: ApiKeyOption = None,
) -> None:
    """List the adapters attached to an endpoint."""
    client = Client(base_url, api_key)
    path = f"/v1/endpoints/{segment(endpoint_id(client, endpoint))}/adapters"
    answer = client.call("GET", path, **page(search, sort, limit))
    if json_output:
        print_json(answer)
        return
    rows = ([a["adapter_name"], _kept(a), a["model_id"]] for a in answer["data"])
    attach_one = hint(f"endpoints adapters attach {shlex.quote(endpoint)} <adapter>")
    empty = (
        f"No adapters attached yet. Attach one: {attach_one}" if search is None else f"No adapter has {search!r} in it."
    )
    columns = (Column("ADAPTER"), Column("KEPT IN"), Column("MODEL ID", rank=1))
    print_table(columns, rows, empty, [a["message"] and f"not served: {a['message']}" for a in answer["data"]])


@app.command("detach")
@app.command("remove", hidden=True)
@app.command("rm", hidden=True)
@app.command("delete", hidden=True)
def detach(
    endpoint: Endpoint,
    adapters: SomeAdapters = None,
    every: Annotated[bool, typer.Option("--all", help="Whatever is attached.")] = False,
    yes: Yes = False,
    json_output: JsonFlag = False,
    base_url: BaseUrl = DEFAULT_URL,
    api_key: ApiKeyOption = None,
) -> None:
    """Detach adapters; running requests finish, the uploads stay."""
    if bool(adapters) is every:
        raise UsageProblem(
            "name the adapters to detach, or give --all" if not every else "give names or --all, not both"
        )
    target = Target(Client(base_url, api_key), endpoint)
    if adapters and len(adapters) == 1:
        answer = target.detach(adapters[0])
        name = answer["model_id"].rpartition(":")[2]
        print_json(answer) if json_output else console.print(f"[green]✓[/green] Detached {name}", soft_wrap=True)
        return
    leaving = _once(adapters) if adapters else attached_names(target)
    if leaving and not json_output:
        ask(f"Detach {len(leaving)} adapters from {endpoint}? Requests that name them will be refused.", yes=yes)
    outcomes = bulk.each(leaving, "detached", target.detach, quiet=json_output)
    bulk.conclude(outcomes, json_output=json_output, nothing="No adapters are attached.")


@app.command("sync")
def as_the_file_says(
    endpoint: Endpoint,
    file: Annotated[Path, typer.Option("--file", "-f", help="YAML or JSON with a list `adapters`; - reads stdin.")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be done, and do nothing.")] = False,
    yes: Yes = False,
    json_output: JsonFlag = False,
    base_url: BaseUrl = DEFAULT_URL,
    api_key: ApiKeyOption = None,
) -> None:
    """Attach and detach as a file says.

    What it lists is attached, what it does not list is detached. The file: `adapters:` with a list of names; an entry
    may also be `{name: my-adapter, source: ./folder}`, which is uploaded first where there is no adapter of this name.
    """
    wanted = sync.read(file)
    target = Target(Client(base_url, api_key), endpoint)
    plan = sync.plan(target, wanted)
    if not json_output:
        sync.show(plan)
    if dry_run:
        if json_output:
            print_json(plan.view(dry_run=True))
        else:
            console.print("Dry run: nothing was changed.")
        raise typer.Exit(1 if plan.problems else 0)
    sync.check(plan)
    if plan.remove and not json_output:
        ask(f"Detach {len(plan.remove)} adapters? Requests that name them will be refused.", yes=yes)
    sync.carry_out(target, plan, json_output=json_output)


def _once(names: list[str]) -> list[str]:
    return list(dict.fromkeys(names))


def _kept(adapter: dict[str, Any]) -> str:
    return ", ".join(adapter["replicas"].values()) or "-"
