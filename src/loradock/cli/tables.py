"""Tables that fit the terminal: what matters least is left out, long texts go over several lines."""

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

_GAP = 2
_NARROWEST = 12
_UNBOUNDED = 10_000


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table. Of several with a `rank`, the highest is left out first where there is no room; `folds`: a
    text, not a name to be copied; `below`: where there is no room it gets lines of its own."""

    title: str
    rank: int = 0
    folds: bool = False
    below: bool = False


class Shown:
    """`--wide` is for all tables of a run."""

    wide = False


def use_wide(wanted: bool) -> None:
    Shown.wide = Shown.wide or wanted


def print_table(
    console: Console, columns: Sequence[Column], rows: Iterable[Sequence[Any]], notes: Sequence[str | None] = ()
) -> None:
    """`notes` stand below their rows, e.g. why something is in ERROR."""
    cells = [[printable(cell) for cell in row] for row in rows]
    columns, cells, notes = _moved_below(columns, cells, notes, _room(console))
    natural = [max(cell_len(text) for text in texts) for texts in zip(*_with_titles(columns, cells), strict=True)]
    room = _room(console)
    kept = _kept(columns, natural, room)
    widths = {n: natural[n] for n in kept}
    _squeeze(columns, widths, room)
    _print_row(console, [column.title for column in columns], widths, "bold")
    for number, row in enumerate(cells):
        _print_row(console, row, widths)
        if number < len(notes) and (note := notes[number]):
            for place, line in enumerate(Text(printable(note)).wrap(console, max(_NARROWEST, min(room, 160) - 4))):
                console.print(Text.assemble("  ", ("  " if place else "└ ", "dim"), line), soft_wrap=True)
    left_out = [columns[n].title for n in range(len(columns)) if n not in kept]
    if left_out:
        console.print(f"[dim]No room for {', '.join(left_out)}: --wide shows all[/dim]", soft_wrap=True)


def _moved_below(
    columns: Sequence[Column], cells: list[list[str]], notes: Sequence[str | None], room: int
) -> tuple[Sequence[Column], list[list[str]], Sequence[str | None]]:
    widths = [max(map(cell_len, texts)) for texts in zip(*_with_titles(columns, cells), strict=True)]
    moved = next((n for n, column in enumerate(columns) if column.below), None)
    if moved is None or _total(widths) <= room:
        return columns, cells, notes
    rest = [[*row[:moved], *row[moved + 1 :]] for row in cells]
    return [*columns[:moved], *columns[moved + 1 :]], rest, [row[moved] for row in cells]


def _with_titles(columns: Sequence[Column], cells: list[list[str]]) -> list[list[str]]:
    return [[column.title for column in columns], *cells]


def _room(console: Console) -> int:
    """Characters of a line. What goes into a file or another program has no width, unless it is told."""
    if Shown.wide or not (console.is_terminal or os.environ.get("COLUMNS")):
        return _UNBOUNDED
    return console.width


def _kept(columns: Sequence[Column], natural: list[int], room: int) -> list[int]:
    kept = list(range(len(columns)))
    while _total([natural[n] if not columns[n].folds else min(natural[n], 30) for n in kept]) > room:
        worst = max(kept, key=lambda n: columns[n].rank)
        if not columns[worst].rank:
            break
        kept.remove(worst)
    return kept


def _squeeze(columns: Sequence[Column], widths: dict[int, int], room: int) -> None:
    """Texts give way first, then the widest names."""
    for candidates in ([n for n in widths if columns[n].folds], list(widths)):
        for number in sorted(candidates, key=lambda n: -widths[n]):
            excess = _total(list(widths.values())) - room
            if excess > 0:
                widths[number] = max(min(_NARROWEST, widths[number]), widths[number] - excess)


def _total(widths: Sequence[int]) -> int:
    return sum(widths) + _GAP * (len(widths) - 1)


def _print_row(console: Console, cells: Sequence[str], widths: dict[int, int], style: str = "") -> None:
    lines = {n: _folded(cells[n], width) for n, width in widths.items()}
    for number in range(max(len(found) for found in lines.values())):
        parts = [_padded(lines[n], number, width) for n, width in widths.items()]
        console.print(Text((" " * _GAP).join(parts).rstrip(), style=style), soft_wrap=True)


def _folded(text: str, width: int) -> list[str]:
    if cell_len(text) <= width:
        return [text]
    return [line.plain.rstrip() for line in Text(text).wrap(Console(width=width), width)] or [""]


def _padded(lines: list[str], number: int, width: int) -> str:
    line = lines[number] if number < len(lines) else ""
    return line + " " * (width - cell_len(line))


def printable(value: Any) -> str:
    """Names come from anywhere: nothing in them may steer the terminal."""
    text = "" if value is None else str(value)
    return "".join(letter if letter.isprintable() else " " for letter in text)
