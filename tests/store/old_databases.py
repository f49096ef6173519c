"""Databases as earlier versions left them, with data."""

import sqlite3
from contextlib import closing
from pathlib import Path

from loradock.store.database import Database, migrate

NOW = "2026-01-02 03:04:05.000000"
ROWS = {
    "accounts": {"id": "acct_1", "slug": "tester", "created_at": NOW},
    "api_keys": {
        "id": "key_1",
        "account_id": "acct_1",
        "name": "first",
        "digest": "d1",
        "hint": "1234",
        "created_at": NOW,
    },
    "models": {
        "id": "ml_1",
        "account_id": "acct_1",
        "name": "tester/pirate",
        "kind": "adapter",
        "state": "READY",
        "created_at": NOW,
    },
    "revisions": {
        "id": "rev_1",
        "model_id": "ml_1",
        "digest": "ab" * 32,
        "size_bytes": 1,
        "target_modules": "[]",
        "created_at": NOW,
    },
    "endpoints": {
        "id": "endpoint-1",
        "account_id": "acct_1",
        "name": "tester/base-1",
        "display_name": "dock",
        "kind": "dedicated",
        "visibility": "private",
        "created_at": NOW,
    },
    "deployments": {
        "id": "dep_1",
        "endpoint_id": "endpoint-1",
        "base_model": "org/base",
        "hardware": "cpu",
        "min_replicas": 1,
        "max_replicas": 1,
        "lora_enabled": 1,
        "max_lora_rank": 64,
        "desired": "STOPPED",
        "state": "STOPPED",
        "created_at": NOW,
    },
    "attachments": {
        "id": "att_1",
        "deployment_id": "dep_1",
        "model_id": "ml_1",
        "revision_id": "rev_1",
        "engine_name": "tester/pirate",
        "state": "ATTACHED",
        "created_at": NOW,
    },
    "events": {
        "id": 1,
        "account_id": "acct_1",
        "subject_id": "ml_1",
        "kind": "model.uploaded",
        "message": "x",
        "created_at": NOW,
    },
}
"""A row of every table of the first schema that refers to others, or is referred to."""


def make(file: Path, revision: str, *, rows: bool = True) -> None:
    """A database with that schema."""
    database = Database(f"sqlite:///{file}")
    migrate(database.engine, revision)
    database.close()
    if not rows:
        return
    with closing(sqlite3.connect(file)) as connection, connection:
        for table, row in ROWS.items():
            marks = ", ".join("?" * len(row))
            connection.execute(f"INSERT INTO {table} ({', '.join(row)}) VALUES ({marks})", tuple(row.values()))


def check_rows(file: Path) -> None:
    """All of them are there, others may be, and they refer to each other."""
    with closing(sqlite3.connect(file)) as connection:
        connection.row_factory = sqlite3.Row
        for table, row in ROWS.items():
            found = connection.execute(f"SELECT * FROM {table} WHERE id = ?", (row["id"],)).fetchall()
            assert [{name: one[name] for name in row} for one in found] == [row], table
        assert connection.execute("PRAGMA foreign_key_check").fetchall() == []
        assert tuple(connection.execute("PRAGMA integrity_check").fetchone()) == ("ok",)
