"""The data folder before it is used: is it there, and do its database and its files belong together?"""

import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext
from pathlib import Path

from sqlalchemy import select
from sqlalchemy.exc import DBAPIError

from loradock.configuration.settings import Settings
from loradock.registry.blobs import blobs_root, digests_in
from loradock.store.database import Database, migrate
from loradock.store.failures import damaged, not_permitted, room_on_disk, unusable
from loradock.store.schema import is_newest
from loradock.store.tables import Job, Revision
from loradock.types.errors import DataUnusable, StorageFull

_CHECKED_BYTES = 256 << 20
"""Larger databases are not read through at every start."""

_DAMAGED = (11, 26)
"""SQLITE_CORRUPT, SQLITE_NOTADB."""


def check_not_lost(settings: Settings) -> None:
    """Raises DataUnusable where a database would be made beside the files of an earlier one."""
    file = settings.database_file
    if not is_empty(file) or not (traces := _traces(settings)):
        return
    raise DataUnusable(
        f"{file} is missing or empty, but a server has run here ({', '.join(traces)}): put the file or a backup of it"
        " back, give another --data-dir, or start with --begin-anew, which makes a new one and keeps the files of"
        f" adapters in {settings.trash} for {settings.trash_days} days"
    )


def make_folder(folder: Path) -> None:
    """Raises DataUnusable when it cannot be made or written to."""
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        probe = folder / ".writable"
        probe.touch()
        probe.unlink()
    except OSError as error:
        reason = f"the data folder {folder} cannot be used ({error.strerror}): give another --data-dir"
        raise DataUnusable(reason) from error


@contextmanager
def told_when_full(folder: Path) -> Iterator[None]:
    """Raises DataUnusable where its disk is full."""
    try:
        with room_on_disk():
            yield
    except StorageFull as error:
        raise DataUnusable(f"the disk that holds {folder} is full: make room and start again") from error


def opened(file: Path, url: str, alone: Callable[[], AbstractContextManager[object]] = nullcontext) -> Database:
    """Whole and with the newest schema, to which it is brought within `alone()`. Raises DataUnusable."""
    database = Database(url)
    database.make_room()
    try:
        _check_whole(database, file)
        if not is_newest(database.engine):
            with alone():
                _upgrade(database, file)
    except DBAPIError as error:
        database.close()
        raise DataUnusable(unusable(error, file)) from error
    except BaseException:
        database.close()
        raise
    return database


def _upgrade(database: Database, file: Path) -> None:
    try:
        with room_on_disk():
            migrate(database.engine)
    except DataUnusable as error:
        raise DataUnusable(f"{file}: {error.message}") from error


def _check_whole(database: Database, file: Path) -> None:
    """Damage in the middle of a file would else be met by whoever needs what lay there. Raises DatabaseError."""
    if not is_empty(file) and file.stat().st_size <= _CHECKED_BYTES:
        with database.engine.connect() as connection:
            found = connection.exec_driver_sql("PRAGMA quick_check(1)").scalar()
        if found != "ok":
            raise DataUnusable(damaged(file))


def is_empty(file: Path) -> bool:
    try:
        return file.stat().st_size == 0
    except FileNotFoundError:
        return True


def _traces(settings: Settings) -> list[str]:
    """Return the traces of a server whose database is not there any more."""
    folder, file = settings.data_dir, settings.database_file
    blobs = len(digests_in(blobs_root(folder)))
    found = [f"the files of {blobs} models in blobs/"] if blobs else []
    found += [f"{path.name}" for path in (settings.key_file, file.with_name(f"{file.name}-wal")) if path.is_file()]
    replicas = folder / "replicas"
    if replicas.is_dir() and any(replicas.iterdir()):
        found.append("replicas/")
    return found


def check_writable(database: Database, file: Path) -> None:
    """Raises DataUnusable where another program holds it, or nothing can be written: SQLite itself opens a file that
    may only be read, and tells at the first write."""
    if not os.access(file, os.W_OK):
        raise DataUnusable(not_permitted(file))
    try:
        with database.engine.connect() as connection:
            connection.exec_driver_sql("BEGIN IMMEDIATE")
    except DBAPIError as error:
        raise DataUnusable(unusable(error, file)) from error


def check_belonging(database: Database, settings: Settings) -> None:
    """A database that knows none of the files is an older one, or another installation's."""
    root = blobs_root(settings.data_dir)
    there = digests_in(root)
    with database.session() as session:
        known = set(session.scalars(select(Revision.digest)))
        ever = session.scalar(select(Job.id).limit(1)) is not None
    if known and not root.is_dir():
        raise DataUnusable(
            f"{root} is missing, with the files of {len(known)} models: put it back (is its disk mounted?), or make it,"
            " empty, to go on without them"
        )
    if there and not there & known and (known or not ever) and not known & digests_in(settings.trash):
        raise DataUnusable(
            f"{settings.database_file} knows none of the {len(there)} models whose files are in {root}: put the"
            " database that belongs to them back, or start with --begin-anew, which keeps this one and sets those files"
            f" aside in {settings.trash} for {settings.trash_days} days"
        )


def set_aside_damaged(settings: Settings) -> None:
    """The database and its journals, where it cannot be read or is empty."""
    file = settings.database_file
    if not is_empty(file) and not _is_damaged(file):
        return
    aside = settings.trash / f"database-{time.strftime('%Y%m%dT%H%M%S')}"
    for part in (file, file.with_name(f"{file.name}-wal"), file.with_name(f"{file.name}-shm")):
        if part.exists():
            aside.mkdir(parents=True, exist_ok=True)
            part.rename(aside / part.name)


def _is_damaged(file: Path) -> bool:
    try:
        with closing(sqlite3.connect(file)) as database:
            return bool(database.execute("PRAGMA quick_check(1)").fetchone() != ("ok",))
    except sqlite3.DatabaseError as error:
        return (error.sqlite_errorcode & 0xFF) in _DAMAGED
