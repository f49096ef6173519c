"""Short database transactions off the event loop, and locks by name."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar
from weakref import WeakValueDictionary

from sqlalchemy.orm import Session

from loradock.store.database import Database

T = TypeVar("T")


class Transactions:
    """`await transact(work)` runs `work(session)` as one transaction in a worker thread.

    A caller that is cancelled is told so only once the transaction has ended: what it left to itself would still write
    after its controller has stopped, behind the back of the next one's recovery.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    async def __call__(self, work: Callable[[Session], T]) -> T:
        running = asyncio.create_task(asyncio.to_thread(self._run, work))
        try:
            return await asyncio.shield(running)
        except asyncio.CancelledError:
            while not running.done():
                with suppress(asyncio.CancelledError):  # once is enough
                    await asyncio.wait({running})
            raise

    def _run(self, work: Callable[[Session], T]) -> T:
        with self._database.session() as session:
            return work(session)


class Locks:
    """One lock per name, kept as long as anybody holds or awaits it."""

    def __init__(self) -> None:
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    def __getitem__(self, name: str) -> asyncio.Lock:
        lock = self._locks.get(name)
        if lock is None:
            lock = self._locks[name] = asyncio.Lock()
        return lock
