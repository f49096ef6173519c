"""Short database transactions off the event loop, and locks by name."""

import asyncio
from collections.abc import Callable
from typing import TypeVar
from weakref import WeakValueDictionary

from sqlalchemy.orm import Session

from loradock.store.database import Database
from loradock.store.failures import room_on_disk
from loradock.store.workers import Workers

T = TypeVar("T")


class Transactions:
    """`await transact(work)` runs `work(session)` as one transaction in one of `workers`.

    A caller that is cancelled is told so only once the transaction has ended (store.workers). Raises DatabaseBusy and
    StorageFull, besides what the work raises.
    """

    def __init__(self, database: Database, workers: Workers | None = None) -> None:
        self._database = database
        self._workers = workers or Workers("transactions", 4)
        self._beside = Workers("adapter-files", 4)

    async def __call__(self, work: Callable[[Session], T], *, make_room: bool = False) -> T:
        """`make_room`: it shall work on a full disk, too."""
        return await self._workers.run(lambda: self._run(work, make_room))

    async def run(self, work: Callable[[], T]) -> T:
        """Work that has transactions of its own and files to write, which takes longer than a transaction."""
        return await self._beside.run(lambda: _on_disk(work))

    async def make_room(self) -> None:
        await self._workers.run(self._database.make_room)

    def close(self) -> None:
        self._workers.close()
        self._beside.close()

    def _run(self, work: Callable[[Session], T], make_room: bool) -> T:
        with self._database.session(make_room=make_room) as session:
            return work(session)


def _on_disk(work: Callable[[], T]) -> T:
    with room_on_disk():
        return work()


class Locks:
    """Holds one lock per name, kept as long as anybody holds or awaits it."""

    def __init__(self) -> None:
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    def __getitem__(self, name: str) -> asyncio.Lock:
        lock = self._locks.get(name)
        if lock is None:
            lock = self._locks[name] = asyncio.Lock()
        return lock
