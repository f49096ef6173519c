"""The same for several things: one line each, a sum at the end, exit status 1 when any of them failed."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import typer
from rich.markup import escape

from loradock.cli.client import NoServer
from loradock.cli.output import complaints, console, in_words, print_json
from loradock.types.errors import LoradockError, Unauthenticated


@dataclass(frozen=True, slots=True)
class Outcome:
    """`answer`: the server's, None where there was none; `status`: the verb as a participle, `failed` or `skipped`."""

    name: str
    status: str
    answer: Any = None
    error: LoradockError | None = None

    def view(self) -> dict[str, Any]:
        told = {"error": self.error.body()["error"]} if self.error else {}
        return {"name": self.name, "status": self.status, **(self.answer or {}), **told}


def each(
    names: Sequence[str], done: str, work: Callable[[str], Any], *, quiet: bool, already: int = 0, total: int = 0
) -> list[Outcome]:
    """Carry out `work` for one after the other. What cannot be tried any more is `skipped`: the server is gone, the key
    is refused, or somebody pressed Ctrl-C.

    `done`: the verb as a participle. `already` of `total` are behind us.
    """
    outcomes: list[Outcome] = []
    for number, name in enumerate(names, already + 1):
        try:
            outcome = Outcome(name, done, work(name))
        except (NoServer, KeyboardInterrupt) as error:
            _give_up(outcomes, names, error, quiet=quiet)
            break
        except LoradockError as error:
            outcome = Outcome(name, "failed", error=error)
            if error.type == Unauthenticated.type:
                _give_up(outcomes, names, error, quiet=quiet)
                break
        outcomes.append(outcome)
        if not quiet:
            _say(outcome, f"[{number}/{total or len(names)}]")
    return outcomes


def _give_up(outcomes: list[Outcome], names: Sequence[str], error: BaseException, *, quiet: bool) -> None:
    reason = in_words(error) if isinstance(error, LoradockError) else "stopped"
    if not quiet:
        complaints.print(f"[red]Error:[/red] {escape(reason)}", soft_wrap=True)
    outcomes += [Outcome(name, "skipped") for name in names[len(outcomes) :]]


def _say(outcome: Outcome, number: str) -> None:
    if outcome.error is None:
        console.print(f"[green]✓[/green] {escape(f'{number} {outcome.name}')} {outcome.status}", soft_wrap=True)
    else:
        words = escape(f"{number} {outcome.name}: {in_words(outcome.error)}")
        complaints.print(f"[red]✗[/red] {words}", soft_wrap=True)


def conclude(outcomes: Sequence[Outcome], *, json_output: bool, nothing: str = "Nothing to do.") -> None:
    """Print the sum. Raises Exit with status 1 when not all of it was done."""
    if json_output:
        print_json({"object": "list", "data": [outcome.view() for outcome in outcomes]})
    else:
        console.print(summary(outcomes) or nothing)
    if any(outcome.status in ("failed", "skipped") for outcome in outcomes):
        raise typer.Exit(1)


def summary(outcomes: Sequence[Outcome]) -> str:
    """E.g. `3 attached, 1 failed.`"""
    counts: dict[str, int] = {}
    for outcome in outcomes:
        counts[outcome.status] = counts.get(outcome.status, 0) + 1
    words = {"skipped": "not tried"}
    return ", ".join(f"{count} {words.get(status, status)}" for status, count in counts.items()) + "." * bool(counts)
