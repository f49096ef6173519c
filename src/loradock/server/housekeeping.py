"""What a server does now and then: room kept for a full disk, and the trash emptied."""

import asyncio
import logging
import time
from contextlib import suppress

from loradock.registry.blobs import Blobs
from loradock.store.database import Database

_LOOK_S = 10.0
_DAY_S = 86_400.0
_log = logging.getLogger(__name__)


class Housekeeping:
    """`start` and `stop` on the event loop; the work is done in threads."""

    def __init__(self, database: Database, blobs: Blobs, trash_days: int) -> None:
        self._database, self._blobs, self._trash_days = database, blobs, trash_days
        self._task: asyncio.Task[None] | None = None
        self._emptied = time.monotonic()

    def start(self) -> None:
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task

    async def _run(self) -> None:
        while True:
            try:
                await asyncio.to_thread(self._look)
            except OSError as error:
                _log.warning("the data folder could not be tidied: %s", error)
            await asyncio.sleep(_LOOK_S)

    def _look(self) -> None:
        if self._database.reserve is not None:
            self._database.reserve.restore()
        if time.monotonic() - self._emptied > _DAY_S:
            self._emptied = time.monotonic()
            self._blobs.empty_trash(self._trash_days * _DAY_S)
