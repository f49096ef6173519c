"""Translates failures of a database into the words of types.errors."""

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy.exc import DBAPIError, SQLAlchemyError, TimeoutError

from loradock.types.errors import DatabaseBusy, LoradockError, StorageFull

# Primary result codes of SQLite (sqlite.org/rescode.html).
_BUSY, _LOCKED, _READONLY, _IOERR, _CORRUPT, _FULL, _CANTOPEN, _NOTADB = 5, 6, 8, 10, 11, 13, 14, 26
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT)
_LITTLE = 1 << 20

DATABASE_FAILURES = (SQLAlchemyError, DatabaseBusy, StorageFull)
"""The errors of a database that is busy, on a full disk, or damaged: work that can wait for it is tried again later."""


def nearly_full(folder: Path) -> bool:
    """Whether less is free than a few transactions take. False where it cannot be told."""
    try:
        room = os.statvfs(folder)
    except OSError:
        return False
    return room.f_bavail * room.f_frsize < _LITTLE


def readable(error: SQLAlchemyError, folder: Path | None) -> LoradockError | None:
    """Return what a caller is told where the database is busy or its disk is full; None where it is something else.

    `folder` is where the database lies.
    """
    if isinstance(error, TimeoutError):  # all connections are taken
        return DatabaseBusy()
    code = sqlite_code(error)
    if code in (_BUSY, _LOCKED):
        return DatabaseBusy()
    return StorageFull() if says_full(code, folder) else None


def unusable(error: SQLAlchemyError, file: Path) -> str:
    """Return why the database in `file` cannot be opened and what to do, for whoever runs the server."""
    code = sqlite_code(error)
    if says_full(code, file.parent):
        return f"the disk that holds {file} is full: make room and start again"
    if code in (_NOTADB, _CORRUPT):
        return damaged(
            file, "is not an SQLite database, or its beginning is damaged" if code == _NOTADB else "is damaged"
        )
    if code in (_CANTOPEN, _READONLY):
        return not_permitted(file)
    if code in (_BUSY, _LOCKED):
        return f"{file} is locked by another program: end it, or wait until it is done, and start again"
    reason = error.orig if isinstance(error, DBAPIError) else error
    return f"{file} cannot be used as a database: {reason}"


def not_permitted(file: Path) -> str:
    return f"{file} cannot be opened for writing: {_who(file)}; check the permissions of the file and its folder"


def damaged(file: Path, what: str = "is damaged") -> str:
    return (
        f"{file} {what}: put a backup in its place (without the old -wal and -shm files), save what can be read with"
        f" `sqlite3 {file.name} .recover | sqlite3 new.db`, or start with --begin-anew, which sets it aside and makes a"
        " new one"
    )


def says_full(code: int | None, folder: Path | None) -> bool:
    """Whether an error comes of a full disk: without room for its shared memory or a new file, SQLite does not say."""
    return code == _FULL or (code in (_IOERR, _CANTOPEN) and folder is not None and nearly_full(folder))


def sqlite_code(error: SQLAlchemyError) -> int | None:
    """The primary result code, where it is SQLite's."""
    original = error.orig if isinstance(error, DBAPIError) else None
    code = getattr(original, "sqlite_errorcode", None)
    return code & 0xFF if isinstance(code, int) else None


def check_room(folder: Path, size: int) -> None:
    """Check for room before the disk is filled in vain. Raises StorageFull."""
    if shutil.disk_usage(folder).free < size:
        raise StorageFull


@contextmanager
def room_on_disk() -> Iterator[None]:
    """Raises StorageFull for what the operating system says of a full disk or quota."""
    try:
        yield
    except OSError as error:
        if error.errno in _NO_ROOM:
            raise StorageFull from error
        raise


def _who(file: Path) -> str:
    try:
        owner = file.stat()
    except OSError as error:
        return error.strerror or str(error)
    return f"it belongs to user {owner.st_uid} with mode {owner.st_mode & 0o777:o}, and this is user {os.geteuid()}"
