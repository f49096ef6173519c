"""Making and upgrading the schema: all of it or nothing, also when killed in the middle."""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, create_engine

from loradock.store.failures import says_full
from loradock.store.half_made import Tables, mend, tables_of
from loradock.types.errors import DataUnusable, StorageFull

_MIGRATIONS = Path(__file__).parent / "migrations"


def migrate(engine: Engine, revision: str = "head") -> None:
    """Bring the schema to the newest revision, in one transaction; a file with data is copied first.

    Raises DataUnusable for a newer schema than this version knows and for a database of something else.
    """
    scripts = ScriptDirectory.from_config(_config())
    wanted = scripts.get_current_head() if revision == "head" else revision
    with engine.connect() as connection:
        if schema_of(connection) == wanted:
            return  # without a lock
    with _one_transaction(engine) as connection:
        found = schema_of(connection)  # again, under the lock: another process may have been quicker
        if found == wanted:
            return
        known = [script.revision for script in scripts.walk_revisions()]
        if found is not None and found not in known:
            raise DataUnusable(
                f"the database was made by a newer version of Loradock (schema {found}; this one knows up to"
                f" {known[0]}): start that version, or put a copy made before the upgrade in its place"
            )
        mend(connection, _tables_at(found), _tables_at("head"))
        if found is not None:
            _keep_copy(engine, found)
        _upgrade(connection, revision)
        _check_references(connection)


def is_newest(engine: Engine) -> bool:
    with engine.connect() as connection:
        return schema_of(connection) == ScriptDirectory.from_config(_config()).get_current_head()


def schema_of(connection: Connection) -> str | None:
    """The revision of its schema; None when it has none yet."""
    heads = MigrationContext.configure(connection).get_current_heads()
    return heads[0] if heads else None


def copy_before(file: Path, revision: str) -> Path:
    """Return where the copy lies that was made before the upgrade from this revision."""
    return file.with_name(f"{file.stem}-schema-{revision}{file.suffix}")


@contextmanager
def _one_transaction(engine: Engine) -> Iterator[Connection]:
    """Open one transaction, also for statements that make tables.

    Python's sqlite3 begins transactions by itself only before statements that change rows, and Alembic commits after
    every statement on SQLite unless it finds a transaction begun (docs.sqlalchemy.org, "SQLite Transactions"). Foreign
    keys are off, since a table that is made anew is dropped in between (sqlite.org/lang_altertable.html, 7).
    """
    with engine.connect() as connection:
        if engine.dialect.name == "sqlite":
            connection.detach()  # closed at the end: the next one shall have its foreign keys
            connection.exec_driver_sql("PRAGMA foreign_keys=OFF")
            connection.exec_driver_sql("BEGIN IMMEDIATE")
        with connection.begin() if not connection.in_transaction() else _committed(connection):
            yield connection


@contextmanager
def _committed(connection: Connection) -> Iterator[None]:
    try:
        yield
    except BaseException:
        connection.rollback()
        raise
    connection.commit()


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
    return config


def _upgrade(connection: Connection, revision: str) -> None:
    config = _config()
    config.attributes["connection"] = connection
    command.upgrade(config, revision)


def _tables_at(revision: str | None) -> Tables:
    if revision is None:
        return {}
    memory = create_engine("sqlite://")
    try:
        with memory.begin() as connection:
            _upgrade(connection, revision)
            return tables_of(connection)
    finally:
        memory.dispose()


def _check_references(connection: Connection) -> None:
    if connection.dialect.name != "sqlite":
        return
    broken = {row[0] for row in connection.exec_driver_sql("PRAGMA foreign_key_check")}
    if broken:
        raise DataUnusable(f"rows of {', '.join(sorted(broken))} name others that are not there: put a backup in place")


def _keep_copy(engine: Engine, revision: str) -> None:
    """Copy the database beside the file, durable before the upgrade begins; our own lock lets others read. Raises
    StorageFull, and DataUnusable when it cannot be made."""
    if engine.dialect.name != "sqlite" or not engine.url.database:
        return
    file = Path(engine.url.database)
    target = copy_before(file, revision)
    draft = target.with_suffix(".draft")
    draft.unlink(missing_ok=True)
    try:
        with closing(sqlite3.connect(file)) as source, closing(sqlite3.connect(draft)) as copy:
            source.backup(copy)
    except sqlite3.Error as error:
        draft.unlink(missing_ok=True)
        if says_full(error.sqlite_errorcode & 0xFF, file.parent):
            raise StorageFull from error
        raise DataUnusable(f"no copy could be made before its upgrade ({error}): put a backup in its place") from error
    draft.chmod(0o600)
    with draft.open("rb") as written:
        os.fsync(written.fileno())
    draft.replace(target)
