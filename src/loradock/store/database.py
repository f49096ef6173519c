"""Sessions on the database, SQLite in WAL by default (store.schema makes its tables)."""

import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, create_engine, event
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session, sessionmaker

from loradock.store.failures import readable
from loradock.store.reserve import Reserve
from loradock.store.schema import migrate
from loradock.types.errors import StorageFull

__all__ = ["Database", "migrate"]


def _prepare_sqlite(connection: Any, patience: float) -> None:
    cursor = connection.cursor()
    for pragma in (f"busy_timeout={patience * 1000:.0f}", "synchronous=NORMAL", "foreign_keys=ON"):
        cursor.execute(f"PRAGMA {pragma}")
    _write_ahead(cursor, patience)
    cursor.close()


def _write_ahead(cursor: Any, patience: float) -> None:
    """SQLite waits for no lock where a file's mode is changed, whatever its busy_timeout."""
    deadline = time.monotonic() + patience
    while cursor.execute("PRAGMA journal_mode").fetchone() != ("wal",):
        try:
            cursor.execute("PRAGMA journal_mode=WAL")
            return
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
        time.sleep(0.01)


class Database:
    """Sessions on one database. `url` is a SQLAlchemy URL, e.g. `sqlite:////var/lib/loradock/loradock.db`.

    `patience`: seconds that a statement waits for a lock before its caller is told that the database is busy. No thread
    waits for another's connection: there are more of them than threads that use it (docs/internals.md, "Threads").
    """

    def __init__(self, url: str, patience: float = 5.0) -> None:
        self.engine = create_engine(url, pool_size=8, max_overflow=92, pool_timeout=patience)
        if self.engine.dialect.name == "sqlite":
            event.listen(self.engine, "connect", lambda connection, _: _prepare_sqlite(connection, patience))
        self._sessions = sessionmaker(self.engine, expire_on_commit=False)
        self.folder = _folder_of(self.engine)
        self.reserve = Reserve(self.folder / "reserve") if self.folder else None
        self._was_full = False

    @contextmanager
    def session(self, *, make_room: bool = False) -> Iterator[Session]:
        """Open a transaction: committed when the block ends, rolled back when it raises. `make_room` is for what has to
        work on a full disk, too: deleting, say.

        Raises DatabaseBusy and StorageFull.
        """
        if make_room:
            self.make_room()
        try:
            with self._sessions.begin() as session:
                yield session
        except SQLAlchemyError as error:
            told = readable(error, self.folder)
            if told is None:
                raise
            self._was_full = isinstance(told, StorageFull)
            raise told from error

    def make_room(self) -> None:
        """Give up some of the reserve if the disk is full, and let the journal begin anew in the room that it has."""
        if self.reserve and (self._was_full or self.reserve.is_needed()):
            self.reserve.spend()
            self._was_full = False
            with suppress(SQLAlchemyError), self.engine.connect() as connection:
                connection.exec_driver_sql("PRAGMA wal_checkpoint(PASSIVE)")

    def close(self) -> None:
        self.engine.dispose()


def _folder_of(engine: Engine) -> Path | None:
    """Return the folder of its file, if it is one."""
    name = engine.url.database
    return Path(name).parent if name and name != ":memory:" and engine.dialect.name == "sqlite" else None
