"""Preparing the data folder: one server at a time, the newest schema, the first account and key."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from loradock.configuration.settings import Settings, default_data_dir
from loradock.server.data_folder import (
    check_belonging,
    check_not_lost,
    check_writable,
    is_empty,
    make_folder,
    opened,
    set_aside_damaged,
)
from loradock.store.accounts import create_key, ensure_key, is_revoked
from loradock.store.database import Database
from loradock.types.errors import BadRequest, DataUnusable


def open_database(settings: Settings) -> Database:
    """The data folder's database, made where there was never one, and brought to the newest schema.

    Raises DataUnusable, naming the ways out, for a database that is damaged, of a newer version, or lost: the files of
    adapters that only it knew would be nobody's.
    """
    make_folder(settings.data_dir)
    if settings.begin_anew:
        set_aside_damaged(settings)
    else:
        check_not_lost(settings)
    database = opened(settings.database_file, settings.database_url)
    try:
        check_writable(database, settings.database_file)
        if not settings.begin_anew:
            check_belonging(database, settings)
    except BaseException:
        database.close()
        raise
    return database


def open_existing_database(settings: Settings, *, or_new: bool = False) -> Database:
    """The same beside a server that may run. A new one is made only if asked for, and never in a mistyped folder.

    Raises DataUnusable where there is none.
    """
    folder = settings.data_dir
    if or_new and (folder.is_dir() or folder == default_data_dir()):
        make_folder(folder)
        check_not_lost(settings)
    elif is_empty(settings.database_file):
        raise DataUnusable(
            f"there is no Loradock database in {folder}: check --data-dir, or start a server there once:"
            f" loradock serve --data-dir {folder}"
        )
    return opened(settings.database_file, settings.database_url, lambda: _no_server(folder))


@contextmanager
def _no_server(folder: Path) -> Iterator[None]:
    """Raises DataUnusable where one runs: its schema is not changed under it."""
    try:
        lock = lock_data_dir(folder)
    except BadRequest as error:
        raise DataUnusable(f"a server of another version runs on {folder}: restart it first") from error
    with lock:
        yield


def lock_data_dir(folder: Path) -> IO[str]:
    """Held as long as the returned file is open. Raises BadRequest when another server holds it."""
    lock = (folder / "server.lock").open("w")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        lock.close()
        raise BadRequest(
            f"another loradock server already runs on {folder}; stop it or give another --data-dir"
        ) from error
    return lock


def ensure_bootstrap_key(database: Database, settings: Settings) -> tuple[str, bool]:
    """The first account's key, and whether it was made just now."""
    kept = settings.key_file.read_text().strip() if settings.key_file.is_file() else None
    with database.session() as session:
        usable = kept if kept and not is_revoked(session, kept) else None
        plain = settings.bootstrap_key or usable
        if plain:
            ensure_key(session, settings.bootstrap_account, "bootstrap", plain)
        else:
            plain = create_key(session, settings.bootstrap_account, "bootstrap")[1]
    if plain != kept:
        _write_private(settings.key_file, plain)
    return plain, plain not in (settings.bootstrap_key, kept)


def _write_private(file: Path, text: str) -> None:
    draft = file.with_suffix(".tmp")
    draft.unlink(missing_ok=True)
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as handle:
        handle.write(text + "\n")
    draft.replace(file)
