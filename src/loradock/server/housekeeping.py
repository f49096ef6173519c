"""Periodic work of a server: room kept for a full disk, the trash emptied, the database's file looked for."""

import asyncio
import logging
import time
from contextlib import suppress
from pathlib import Path

from loradock.registry.blobs import Blobs
from loradock.store.database import Database

_LOOK_S = 10.0
_DAY_S = 86_400.0
_log = logging.getLogger(__name__)


class Housekeeping:
    """`start` and `stop` on the event loop; the work is done in threads."""

    def __init__(self, database: Database, blobs: Blobs, trash_days: int, file: Path) -> None:
        """`file` is the database's."""
        self._database = database
        self._blobs = blobs
        self._trash_days = trash_days
        self._file = file
        self._inode = _inode_of(file)
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
        self._look_for_database()
        if time.monotonic() - self._emptied > _DAY_S:
            self._emptied = time.monotonic()
            self._blobs.empty_trash(self._trash_days * _DAY_S)

    def _look_for_database(self) -> None:
        """Log when the database's file is gone: what is open goes on as if nothing had happened, only the next start
        would find out."""
        before, self._inode = self._inode, _inode_of(self._file)
        if before is not None and self._inode != before:
            _log.error(
                "%s was %s while the server runs: what is changed from now on is lost. Stop the server, put the right"
                " file in its place without -wal and -shm files, and start again",
                self._file,
                "removed" if self._inode is None else "replaced",
            )


def _inode_of(file: Path) -> int | None:
    try:
        return file.stat().st_ino
    except FileNotFoundError:
        return None
