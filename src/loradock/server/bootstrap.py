"""Preparing the data folder: one server at a time, the newest schema, the first account and key."""

import fcntl
import os
from pathlib import Path
from typing import IO

from loradock.api.settings import Settings
from loradock.store.accounts import create_key, ensure_key, is_revoked
from loradock.store.database import Database, migrate
from loradock.types.errors import BadRequest


def open_database(settings: Settings) -> Database:
    """The data folder's database, brought to the newest schema."""
    settings.data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    database = Database(settings.database_url)
    migrate(database.engine)
    return database


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
