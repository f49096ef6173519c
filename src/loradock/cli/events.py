"""Who did what when."""

from typing import Annotated

import typer

from loradock.cli.client import DEFAULT_URL, ApiKeyOption, BaseUrl, Client
from loradock.cli.output import JsonFlag, console, print_json, print_table


def events(
    subject: Annotated[str | None, typer.Argument(help="Only of this endpoint, model or key (id or name).")] = None,
    limit: Annotated[int, typer.Option(help="How many, 200 at most.")] = 50,
    before: Annotated[int | None, typer.Option(help="Only those before the event of this id.")] = None,
    json_output: JsonFlag = False,
    base_url: BaseUrl = DEFAULT_URL,
    api_key: ApiKeyOption = None,
) -> None:
    """Show who did what when, the newest first."""
    client = Client(base_url, api_key)
    answer = client.call("GET", "/v1/events", subject=subject, limit=limit, before=before)
    if json_output:
        print_json(answer)
        return
    shown = answer["data"]
    rows = ([e["created_at"][:19].replace("T", " "), e["actor"], e["kind"], e["message"]] for e in shown)
    print_table(("WHEN (UTC)", "WHO", "WHAT", ""), rows, "Nothing has happened yet.")
    if answer["has_more"]:
        console.print(f"\nOlder ones: loradock events --before {shown[-1]['id']}")
