"""The command that lists events: who did what when."""

import json
import shlex
import time
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.text import Text

from loradock.cli.client import DEFAULT_URL, ApiKeyOption, BaseUrl, Client
from loradock.cli.finding import hint
from loradock.cli.output import JsonFlag, console, print_json, print_table
from loradock.cli.tables import Column, printable
from loradock.cli.times import when, zone_name

_POLL_SECONDS = 1.0
_BEFORE_FOLLOWING = 10


def events(
    subject: Annotated[str | None, typer.Argument(help="Only of this endpoint, model or key (id or name).")] = None,
    limit: Annotated[
        int | None, typer.Option("--limit", "-n", min=1, max=200, help="How many; default: 50, before --follow 10.")
    ] = None,
    before: Annotated[int | None, typer.Option(help="Only those before the event of this id.")] = None,
    steps: Annotated[bool, typer.Option("--steps", help="Each step of an attach, not one line for all.")] = False,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with what happens, until Ctrl-C.")] = False,
    json_output: JsonFlag = False,
    base_url: BaseUrl = DEFAULT_URL,
    api_key: ApiKeyOption = None,
) -> None:
    """Show who did what when. The newest first; with --follow the newest last."""
    client = Client(base_url, api_key)
    asked = {"subject": subject, "steps": "true" if steps else "false"}
    if follow:
        _follow(client, asked, _BEFORE_FOLLOWING if limit is None else limit, json_output=json_output)
    answer = client.call("GET", "/v1/events", limit=limit, before=before, **asked)
    if json_output:
        print_json(answer)
        return
    shown = answer["data"]
    columns = (Column(f"WHEN ({zone_name()})"), Column("WHO", rank=1), Column("WHAT"), Column("", below=True))
    rows = ([when(e["created_at"]), e["actor"], e["kind"], e["message"]] for e in shown)
    print_table(columns, rows, "Nothing has happened yet.")
    if answer["has_more"]:
        further = hint(f"events --before {shown[-1]['id']}{f' {shlex.quote(subject)}' if subject else ''}")
        console.print(f"\nOlder ones: {escape(further)}", soft_wrap=True)


def _follow(client: Client, asked: dict[str, Any], limit: int, *, json_output: bool) -> None:
    """Print events as they come, until Ctrl-C."""
    found = client.call("GET", "/v1/events", limit=limit, **asked)["data"][::-1]
    last = found[-1]["id"] if found else 0
    while True:
        for event in found:
            _print_line(event, json_output=json_output)
        time.sleep(_POLL_SECONDS)
        found = client.call("GET", "/v1/events", after=last, **asked)["data"]
        last = found[-1]["id"] if found else last


def _print_line(event: dict[str, Any], *, json_output: bool) -> None:
    if json_output:
        print(json.dumps(event, ensure_ascii=False), flush=True)
        return
    line = f"{when(event['created_at'])}  {event['actor']}  {event['kind']}  {event['message']}"
    console.print(Text(printable(line)), soft_wrap=True)
