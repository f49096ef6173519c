"""Database writes of a deployment's loop that may wait: replicas are launched and ended also while it cannot write."""

import asyncio
import time
from collections import deque
from collections.abc import Callable

from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from loradock.control.work import Transactions
from loradock.store.failures import DATABASE_FAILURES
from loradock.store.repeats import Repeats

Write = Callable[[Session], None]
_MOST = 1000
_PAUSE_S = 2.0


class Ledger:
    """Writes in their order. While the database is busy or its disk full they wait for a later `flush`, the last
    thousand of them."""

    def __init__(self, transact: Transactions, repeats: Repeats, what: str) -> None:
        self._transact = transact
        self._repeats = repeats
        self._what = what
        self._waiting: deque[Write] = deque(maxlen=_MOST)
        self._writing = asyncio.Lock()
        self._not_before = 0.0

    @property
    def stuck(self) -> bool:
        """Whether writing has just failed, so that trying at once would only take the time of others."""
        return time.monotonic() < self._not_before

    async def write(self, work: Write) -> None:
        """Write now, if that is possible. Raises IntegrityError for what contradicts the database, if that is known
        now."""
        async with self._writing:
            if not self._waiting and not self.stuck and await self._written(work):
                return
            self._waiting.append(work)

    async def flush(self) -> None:
        """Write what waits; what contradicts the database by now (the deployment was deleted, say) is dropped."""
        async with self._writing:
            while self._waiting and not self.stuck:
                work = self._waiting.popleft()
                try:
                    if not await self._written(work):
                        self._waiting.appendleft(work)
                except IntegrityError as error:
                    self._repeats.failed(f"{self._what}, one of those that had waited,", error)

    async def make_room(self) -> None:
        """Make room for what is to be done on a full disk, too."""
        await self._transact.make_room()

    def failed(self, error: BaseException) -> None:
        self._repeats.failed(self._what, error)
        self._not_before = time.monotonic() + _PAUSE_S

    async def _written(self, work: Write) -> bool:
        try:
            await self._transact(work)
        except IntegrityError:
            raise
        except DATABASE_FAILURES as error:
            self.failed(error)
            return False
        self._repeats.worked(self._what)
        return True
