"""Sessions on the database, SQLite in WAL by default (store.schema makes its tables)."""

import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import create_engine, event
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session, sessionmaker

from loradock.store.failures import readable
from loradock.store.schema import migrate

__all__ = ["Database", "migrate"]

_BUSY_MS = 5000
"""How long a statement waits for a lock before its caller is told that the database is busy."""


def _sqlite_pragmas(connection: Any, _record: Any) -> None:
    cursor = connection.cursor()
    for pragma in (f"busy_timeout={_BUSY_MS}", "synchronous=NORMAL", "foreign_keys=ON"):
        cursor.execute(f"PRAGMA {pragma}")
    _write_ahead(cursor)
    cursor.close()


def _write_ahead(cursor: Any) -> None:
    """SQLite waits for no lock where a file's mode is changed, whatever its busy_timeout."""
    deadline = time.monotonic() + _BUSY_MS / 1000
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

    No thread waits for another's connection: there are more than threads that use it (docs/structure.md, "Threads").
    """

    def __init__(self, url: str) -> None:
        self.engine = create_engine(url, pool_size=8, max_overflow=92, pool_timeout=_BUSY_MS / 1000)
        if self.engine.dialect.name == "sqlite":
            event.listen(self.engine, "connect", _sqlite_pragmas)
        self._sessions = sessionmaker(self.engine, expire_on_commit=False)

    @property
    def file(self) -> Path | None:
        """None where it is no file."""
        name = self.engine.url.database
        return Path(name) if name and self.engine.dialect.name == "sqlite" else None

    @contextmanager
    def session(self) -> Iterator[Session]:
        """One transaction: committed when the block ends, rolled back when it raises.

        Raises DatabaseBusy and StorageFull.
        """
        try:
            with self._sessions.begin() as session:
                yield session
        except SQLAlchemyError as error:
            told = readable(error, self.file.parent if self.file else None)
            if told is None:
                raise
            raise told from error

    def close(self) -> None:
        self.engine.dispose()
