"""Databases in the middle of an upgrade: versions that did not upgrade in one transaction left such when killed."""

import logging

from sqlalchemy import Connection, inspect, text

from loradock.types.errors import DataUnusable

Tables = dict[str, set[str]]
"""Tables and their columns, without Alembic's own."""

_DRAFT = "_alembic_tmp_"
"""Alembic's name for a table while it is made anew."""

_log = logging.getLogger(__name__)


def tables_of(connection: Connection) -> Tables:
    found = inspect(connection)
    names = set(found.get_table_names()) - {"alembic_version"}
    return {name: {column["name"] for column in found.get_columns(name)} for name in names}


def mend(connection: Connection, recorded: Tables, newest: Tables) -> None:
    """Take back what an upgrade had made beyond the `recorded` schema; tables that are not ours are left alone.

    Raises DataUnusable where that would lose rows, and for a database of something else.
    """
    there = tables_of(connection)
    missing = sorted(recorded.keys() - there.keys())
    if missing:
        raise DataUnusable(f"the database is not whole, it has no {', '.join(missing)}: put a backup in its place")
    surplus = {name for name in there.keys() - recorded.keys() if name in newest or name.startswith(_DRAFT)}
    if not recorded and there.keys() - surplus:
        raise DataUnusable("the database belongs to another program: give another --data-dir")
    filled = sorted(name for name in surplus if not name.startswith(_DRAFT) and _has_rows(connection, name))
    if filled:
        raise DataUnusable(
            f"the database does not say which schema it has, and there are rows in {', '.join(filled)}: put a backup in"
            " its place"
        )
    columns = {name: there[name] & newest.get(name, set()) - recorded[name] for name in recorded}
    if surplus or any(columns.values()):
        _log.warning("the database was left half upgraded by an earlier start; that upgrade is begun anew")
    for name in surplus:
        connection.execute(text(f"DROP TABLE {_quoted(connection, name)}"))
    for table, added in columns.items():
        for column in added:
            connection.execute(
                text(f"ALTER TABLE {_quoted(connection, table)} DROP COLUMN {_quoted(connection, column)}")
            )


def _has_rows(connection: Connection, table: str) -> bool:
    return connection.execute(text(f"SELECT 1 FROM {_quoted(connection, table)} LIMIT 1")).first() is not None  # noqa: S608


def _quoted(connection: Connection, name: str) -> str:
    return connection.dialect.identifier_preparer.quote(name)
