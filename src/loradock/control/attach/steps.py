"""The steps of an attach as they are done, on their way to the events."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy.orm import Session

from loradock.control.work import Transactions
from loradock.store.tables import now
from loradock.types.enums import AttachStep

_PROMPTLY_S = 0.1


@dataclass(frozen=True, slots=True)
class StepResult:
    step: AttachStep
    message: str
    at: datetime


class AttachProgress:
    """Notes of one attach. Those of a quick one are recorded together with its end; people watch a slow one, so what
    it has done is recorded a tenth of a second later at the latest.

    `write(session, notes)` records some.
    """

    def __init__(self, transact: Transactions, write: Callable[[Session, list[StepResult]], None]) -> None:
        self._transact = transact
        self._write = write
        self._notes: list[StepResult] = []
        self._timer: asyncio.TimerHandle | None = None
        self._writing: asyncio.Task[None] | None = None

    def note(self, step: AttachStep, message: str) -> None:
        self._notes.append(StepResult(step, message, now()))
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(_PROMPTLY_S, self._begin_writing)

    async def rest(self) -> list[StepResult]:
        """Return the results not recorded yet, which from now on are the caller's to record."""
        if self._timer is not None:
            self._timer.cancel()
        writing, self._writing = self._writing, None
        if writing is not None:
            await writing
        return self._notes

    def _begin_writing(self) -> None:
        notes, self._notes, self._timer = self._notes, [], None
        self._writing = asyncio.create_task(self._record(notes, self._writing))

    async def _record(self, notes: list[StepResult], before: "asyncio.Task[None] | None") -> None:
        if before is not None:
            await before
        await self._transact(lambda session: self._write(session, notes))
