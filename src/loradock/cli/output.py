"""What the commands print: tables for people, JSON for programs."""

import json
import sys
from collections.abc import Iterable, Sequence
from typing import Annotated, Any, NoReturn

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from loradock.types.errors import LoradockError

console = Console(highlight=False)
_WIDEST = 1000
JsonFlag = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]


def print_json(value: Any) -> None:
    print(json.dumps(value, indent=2, ensure_ascii=False))


def print_table(columns: Sequence[str], rows: Iterable[Sequence[Any]], empty: str) -> None:
    """`empty` says what to do next when there are no rows."""
    found = list(rows)
    if not found:
        console.print(empty)
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, no_wrap=True)
    for row in found:
        table.add_row(*("" if cell is None else escape(str(cell)) for cell in row))
    # A row is a line, whatever the terminal's width: names and ids are there to be copied.
    width = console.measure(table, options=console.options.update(width=_WIDEST)).maximum
    for line in console.render_lines(table, console.options.update(width=width), pad=False):
        console.print(Text.assemble(*((segment.text, segment.style or "") for segment in line)), soft_wrap=True)


def print_fields(thing: dict[str, Any], fields: Iterable[str]) -> None:
    """One `name  value` line per field that has a value."""
    shown = [field for field in fields if thing.get(field) not in (None, "", [])]
    width = max((len(field) for field in shown), default=0)
    for field in shown:
        console.print(
            f"[bold]{field.replace('_', ' '):<{width}}[/bold]  {escape(_plain(thing[field]))}", soft_wrap=True
        )


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
    """Say what went wrong (JSON on stdout, text on stderr) and exit with 1."""
    if json_output:
        print_json({"error": error.body()["error"]})
    else:
        told = error.message if error.detail is None else f"{error.message}: {error.detail}"
        Console(stderr=True, highlight=False).print("[red]Error:[/red]", escape(told), soft_wrap=True)
    sys.exit(1)
