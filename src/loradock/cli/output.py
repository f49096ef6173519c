"""The output of commands: tables for people, JSON for programs."""

import json
import sys
from collections.abc import Iterable, Sequence
from typing import Annotated, Any, NoReturn

import typer
from rich.console import Console
from rich.markup import escape

from loradock.cli import tables
from loradock.cli.tables import Column
from loradock.cli.times import when, zone_name
from loradock.cli.usage import EXIT_USAGE, UsageProblem
from loradock.types.errors import LoradockError

console = Console(highlight=False)
complaints = Console(stderr=True, highlight=False)
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
JsonFlag = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]


def print_json(value: Any) -> None:
    print(json.dumps(value, indent=2, ensure_ascii=False))


def print_table(
    columns: Sequence[str | Column], rows: Iterable[Sequence[Any]], empty: str, notes: Sequence[str | None] = ()
) -> None:
    """`empty` says what to do next when there are no rows; `notes` stand below their rows."""
    found = list(rows)
    if not found:
        console.print(escape(empty), soft_wrap=True)
        return
    made = [Column(column) if isinstance(column, str) else column for column in columns]
    tables.print_table(console, made, found, notes)


def print_fields(thing: dict[str, Any], fields: Iterable[str]) -> None:
    """Print one `name  value` line per field that has a value."""
    shown = [field for field in fields if thing.get(field) not in (None, "", [])]
    width = max((len(field) for field in shown), default=0)
    for field in shown:
        text = f"{when(thing[field])} {zone_name()}" if field.endswith("_at") else _plain(thing[field])
        console.print(f"[bold]{field.replace('_', ' '):<{width}}[/bold]  {escape(text)}", soft_wrap=True)


def _plain(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key.replace('_', ' ')} {item}" for key, item in value.items())
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def size(count: int | None) -> str:
    """Bytes for people."""
    if count is None:
        return ""
    amount, units = float(count), iter(("B", "kB", "MB", "GB", "TB"))
    unit = next(units)
    while amount >= 1000 and unit != "TB":
        amount, unit = amount / 1000, next(units)
    return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"


def fail(error: LoradockError, *, json_output: bool) -> NoReturn:
    """Say what went wrong (JSON on stdout, text on stderr) and exit with 1, or 2 when the command was given wrongly."""
    if json_output:
        print_json({"error": error.body()["error"]})
    else:
        complaints.print("[red]Error:[/red]", escape(in_words(error)), soft_wrap=True)
    sys.exit(EXIT_USAGE if isinstance(error, UsageProblem) else 1)


def in_words(error: LoradockError) -> str:
    return error.whole


def ask(question: str, *, yes: bool) -> None:
    """Ask before adapters are taken offline: a person at a terminal is asked, a script is not. Raises Exit on no."""
    if not yes and sys.stdin.isatty() and console.is_terminal and not typer.confirm(question):
        console.print("Nothing was changed.")
        raise typer.Exit(1)
