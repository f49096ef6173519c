"""The schema is made and upgraded whole or not at all, and nothing that was there is lost."""

import sqlite3
import threading
from contextlib import closing

import pytest
from sqlalchemy import inspect

from loradock.store import schema
from loradock.store.accounts import list_keys
from loradock.store.database import Database, migrate
from loradock.store.events import list_events
from loradock.store.schema import copy_before, schema_of
from loradock.store.tables import Base
from loradock.types.errors import DataUnusable
from tests.store.old_databases import check_rows, make

REVISIONS = ("0001", "0002", "0003", "0004", "0005")


@pytest.fixture
def file(tmp_path):
    return tmp_path / "loradock.db"


@pytest.fixture
def database(file):
    database = Database(f"sqlite:///{file}")
    yield database
    database.close()


def execute(file, *statements):
    with closing(sqlite3.connect(file, isolation_level=None)) as connection:
        return [connection.execute(statement).fetchall() for statement in statements][-1]


def is_newest(database) -> bool:
    found = inspect(database.engine)
    tables = {name: {column["name"] for column in found.get_columns(name)} for name in found.get_table_names()}
    del tables["alembic_version"]
    return tables == {table.name: set(table.columns.keys()) for table in Base.metadata.sorted_tables}


@pytest.mark.parametrize("revision", REVISIONS)
def test_an_upgrade_keeps_rows_and_their_references(file, database, revision):
    make(file, revision)
    migrate(database.engine)
    assert is_newest(database)
    check_rows(file)


def test_foreign_keys_hold_again_after_an_upgrade(file, database):
    make(file, "0001")
    migrate(database.engine)
    with database.engine.connect() as connection:
        assert connection.exec_driver_sql("PRAGMA foreign_keys").scalar() == 1


def test_a_copy_is_made_before_an_upgrade_and_none_otherwise(file, database):
    make(file, "0002")
    migrate(database.engine)
    migrate(database.engine)
    assert sorted(path.name for path in file.parent.glob("*schema*")) == ["loradock-schema-0002.db"]
    copy = copy_before(file, "0002")
    check_rows(copy)
    assert execute(copy, "SELECT version_num FROM alembic_version") == [("0002",)]
    assert copy.stat().st_mode & 0o777 == 0o600


def test_a_failed_upgrade_changes_nothing(file, database, monkeypatch):
    make(file, "0001")
    before = execute(file, "SELECT sql FROM sqlite_master ORDER BY name")

    def fail(_):
        raise RuntimeError("after all statements")

    monkeypatch.setattr(schema, "_check_references", fail)
    with pytest.raises(RuntimeError):
        migrate(database.engine)
    assert execute(file, "SELECT sql FROM sqlite_master ORDER BY name") == before
    check_rows(file)


# What versions that did not upgrade in one transaction left when they were killed: statements that took effect by
# themselves, up to the first that changed a row.
HALF_MADE = {
    "nothing but Alembic's table": (None, ["CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL)"]),
    "some tables of the first": (
        None,
        [
            "CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL)",
            "CREATE TABLE accounts (id VARCHAR(64) NOT NULL, slug VARCHAR(64), created_at DATETIME)",
            "CREATE TABLE api_keys (id VARCHAR(64) NOT NULL, account_id VARCHAR(64) REFERENCES accounts (id))",
            "CREATE INDEX ix_api_keys_account_id ON api_keys (account_id)",
        ],
    ),
    "a draft of a table": ("0001", ["CREATE TABLE _alembic_tmp_deployments (id VARCHAR(64) NOT NULL)"]),
    "a table without its index": ("0002", ["CREATE TABLE browser_sessions (digest VARCHAR(64), key_id VARCHAR(64))"]),
    "a column of an older table": (
        "0003",
        [
            "CREATE TABLE usage (id INTEGER NOT NULL, span INTEGER)",
            "CREATE TABLE endpoint_history (id INTEGER NOT NULL, span INTEGER)",
            "ALTER TABLE events ADD COLUMN actor VARCHAR(200) DEFAULT 'loradock' NOT NULL",
        ],
    ),
}


@pytest.mark.parametrize("case", HALF_MADE)
def test_a_half_made_database_is_finished(file, database, case):
    revision, statements = HALF_MADE[case]
    if revision is not None:
        make(file, revision)
    execute(file, *statements)
    migrate(database.engine)
    assert is_newest(database)
    if revision is not None:
        check_rows(file)


def test_rows_without_a_known_schema_are_not_touched(file, database):
    make(file, "0004")
    execute(file, "DELETE FROM alembic_version")
    with pytest.raises(DataUnusable, match="does not say which schema it has"):
        migrate(database.engine)
    check_rows(file)


def test_a_missing_table_is_named(file, database):
    make(file, "0003")
    execute(file, "DROP TABLE jobs")
    with pytest.raises(DataUnusable, match="it has no jobs"):
        migrate(database.engine)


def test_another_programs_database_is_left_alone(file, database):
    execute(file, "CREATE TABLE bookmarks (id INTEGER)")
    with pytest.raises(DataUnusable, match="belongs to another program"):
        migrate(database.engine)
    assert execute(file, "SELECT name FROM sqlite_master") == [("bookmarks",)]


def test_the_operators_own_table_stays(file, database):
    make(file, "0002")
    execute(file, "CREATE TABLE notes (text)", "INSERT INTO notes VALUES ('mine')")
    migrate(database.engine)
    assert execute(file, "SELECT * FROM notes") == [("mine",)]


def test_a_newer_schema_is_left_alone(file, database):
    make(file, "0004")
    execute(file, "UPDATE alembic_version SET version_num = '0999'")
    with pytest.raises(DataUnusable, match="newer version of Loradock"):
        migrate(database.engine)
    check_rows(file)


def test_many_starts_at_once_make_one_schema(file):
    databases = [Database(f"sqlite:///{file}") for _ in range(4)]
    failures = []

    def start(database):
        try:
            migrate(database.engine)
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=start, args=(database,)) for database in databases]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    with databases[0].session() as session:
        assert list_keys(session) == []
        assert schema_of(session.connection()) == "0006"
    for database in databases:
        database.close()


def test_old_events_are_read_once(file, database):
    """Earlier versions said only in words what an attach was of, and how things were called that are gone."""
    make(file, "0005")
    (account,) = execute(file, "SELECT id FROM accounts LIMIT 1")[0]
    story = [
        ("ml_a", "attach.authorize", "me/a → tester/base-1", "12:00:00.000000"),
        ("ml_b", "attach.authorize", "me/b → me/gone", "12:00:00.100000"),
        ("ml_a", "attach.load", "me/a on 1 replica", "12:00:00.200000"),
        ("ml_a", "attach.route", "me/a on 1 replica", "12:00:00.250000"),
        ("ml_b", "attach.undone", "load failed: too large", "12:00:01.100000"),
        ("ml_b", "model.deleted", "me/b was deleted", "12:00:02.000000"),
        ("ml_d", "attach.authorize", "me/d → me/gone", "12:00:02.100000"),
        ("ml_d", "attach.undone", "the server was cut off while attaching", "13:00:02.200000"),
        ("ml_c", "attach.route", "me/c on 1 replica", "12:00:03.000000"),
        ("ml_c", "key.created", "laptop was made", "12:00:04.000000"),
        ("ml_a", "detach.begun", "me/a leaves tester/base-1", "12:00:05.000000"),
        ("ml_a", "detach.done", "me/a is unloaded", "12:00:05.100000"),
    ]
    values = "(account_id, subject_id, kind, message, actor, created_at)"
    rows = [f"('{account}', '{s}', '{k}', '{m}', 'x', '2026-01-01 {at}')" for s, k, m, at in story]
    execute(file, f"INSERT INTO events {values} VALUES {', '.join(rows)}")
    migrate(database.engine)
    with database.session() as session:
        events = list_events(session, account)[::-1][-len(story) :]
        facts = [event.facts for event in events]
        places = [event.endpoint_id for event in events]
    a, b = {"adapter": "me/a", "endpoint": "tester/base-1"}, {"adapter": "me/b", "endpoint": "me/gone"}
    d = {"adapter": "me/d", "endpoint": "me/gone"}
    assert facts == [
        {**a, "step": "authorize"},
        {**b, "step": "authorize"},
        {**a, "step": "load"},
        {**a, "step": "route", "duration_ms": 250},
        {**b, "step": "load", "duration_ms": 1000},
        {"name": "me/b"},
        {**d, "step": "authorize"},
        d,
        None,
        None,
        a,
        {**a, "unloaded": True},
    ]
    here = "endpoint-1"
    assert places == [here, None, here, here, None, None, None, None, None, None, here, here]
