"""Runs that do one thing to many, row by row, each with a result of its own, whoever looks on meanwhile.

A run belongs to the server, not to the page that began it: closing the page does not cut it off. It is kept in memory
only; what it did is in the events.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from loradock.types.errors import BadRequest, Internal, LoradockError, NotFound
from loradock.types.names import new_id

Act = Callable[[str], Awaitable[str]]
"""Does it to one, by name, and tells what came of it. Raises LoradockError."""
_KEPT = 20
"""Runs of an account that can be looked at; older ones are forgotten."""
_AT_ONCE = 5
"""Runs of an account that go on at the same time."""
_log = logging.getLogger(__name__)


class Progress(StrEnum):
    WAITING = "waiting"
    NOW = "now"
    DONE = "done"
    FAILED = "failed"
    LEFT = "left"


_ORDER = (Progress.FAILED, Progress.NOW, Progress.WAITING, Progress.DONE, Progress.LEFT)


@dataclass(slots=True)
class Line:
    name: str
    progress: Progress = Progress.WAITING
    message: str = ""


@dataclass(slots=True)
class Run:
    """`doing`: "Attaching"; `where`: " to harbour"; `back`: the page that shows what came of it."""

    account_id: str
    doing: str
    where: str
    back: str
    lines: list[Line]
    id: str = field(default_factory=lambda: new_id("run"))
    stopping: bool = False
    over: bool = False

    @property
    def counts(self) -> Counter[Progress]:
        return Counter(line.progress for line in self.lines)

    @property
    def ended(self) -> int:
        """Rows that need nothing more."""
        counts = self.counts
        return counts[Progress.DONE] + counts[Progress.FAILED] + counts[Progress.LEFT]

    def shown(self, most: int) -> list[Line]:
        """Return the lines that went wrong first, then those that are going on."""
        return sorted(self.lines, key=lambda line: _ORDER.index(line.progress))[:most]


class Runs:
    """All on one event loop."""

    def __init__(self) -> None:
        self._runs: dict[str, Run] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}

    def start(self, run: Run, act: Act) -> Run:
        """Raises BadRequest while too many of the account's are going on."""
        going = sum(other.account_id == run.account_id and not other.over for other in self._runs.values())
        if going >= _AT_ONCE:
            raise BadRequest(f"{going} such lists are still being worked off: wait for one to end, or stop it.")
        own = [other for other in self._runs.values() if other.account_id == run.account_id and other.over]
        for old in own[: max(0, len(own) - _KEPT + 1)]:
            del self._runs[old.id]
        self._runs[run.id] = run
        task = self._tasks[run.id] = asyncio.create_task(_carry_out(run, act))
        task.add_done_callback(lambda _: self._end(run))
        return run

    def _end(self, run: Run) -> None:
        run.over = True
        self._tasks.pop(run.id, None)

    def find(self, account_id: str, run_id: str) -> Run:
        """Raises NotFound, for another account's, too."""
        run = self._runs.get(run_id)
        if run is None or run.account_id != account_id:
            raise NotFound("These results are no longer kept. The events tell what was done.")
        return run

    def close(self) -> None:
        """The server stops: what has begun ends or is undone by its own rules."""
        for task in self._tasks.values():
            task.cancel()


async def _carry_out(run: Run, act: Act) -> None:
    for line in run.lines:
        if run.stopping:
            line.progress = Progress.LEFT
        else:
            await _one(line, act)


async def _one(line: Line, act: Act) -> None:
    line.progress = Progress.NOW
    try:
        line.message = await act(line.name)
        line.progress = Progress.DONE
    except LoradockError as error:
        line.progress = Progress.FAILED
        line.message = error.whole
    except Exception:
        _log.exception("one of many failed: %s", line.name)
        line.progress = Progress.FAILED
        line.message = Internal().message


def lines_of(names: Sequence[str]) -> list[Line]:
    """Each name once, in order."""
    return [Line(name) for name in dict.fromkeys(names)]
