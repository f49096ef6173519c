"""Short database transactions off the event loop, and locks by name."""

import asyncio
from collections.abc import Callable
from typing import TypeVar
from weakref import WeakValueDictionary

from sqlalchemy.orm import Session

from loradock.store.database import Database

T = TypeVar("T")


class Transactions:
    """`await transact(work)` runs `work(session)` as one transaction in a worker thread."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def __call__(self, work: Callable[[Session], T]) -> T:
        return await asyncio.to_thread(self._run, work)

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
