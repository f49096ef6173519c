"""Databases for tests of what is built on them. tests/store has those of making and upgrading them."""

import functools
import tempfile
from pathlib import Path

from loradock.store.database import Database, migrate


def open_database(file: Path, **options) -> Database:
    """With the newest schema. A new one is a copy: the migrations, which take longer than many a test, ran once."""
    if not file.exists():
        file.write_bytes(_empty())
    return Database(f"sqlite:///{file}", **options)


@functools.cache
def _empty() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "empty.db"
        database = Database(f"sqlite:///{file}")
        migrate(database.engine)
        database.close()
        return file.read_bytes()
