"""facts: what programs read of events and jobs, beside the sentences for people"""

from collections.abc import Iterator
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

_EVENTS = sa.table(
    "events",
    sa.column("id", sa.Integer),
    sa.column("subject_id", sa.String),
    sa.column("kind", sa.String),
    sa.column("message", sa.Text),
    sa.column("created_at", sa.DateTime),
    sa.column("endpoint_id", sa.String),
    sa.column("facts", sa.JSON),
)
_LAST_WORDS = {"model.deleted": " was deleted", "endpoint.deleted": " was deleted", "model.upload_failed": ": "}
_FIRST, _ENDS = "attach.authorize", ("attach.route", "attach.undone")
_AT_ONCE = 1000
_INDEX = "ix_events_account_id_endpoint_id"


def upgrade() -> None:
    with op.batch_alter_table("events", schema=None) as batch_op:
        batch_op.add_column(sa.Column("endpoint_id", sa.String(length=64), nullable=True))
        batch_op.add_column(sa.Column("facts", sa.JSON(none_as_null=True), nullable=True))
    op.create_index(_INDEX, "events", ["account_id", "endpoint_id"])
    with op.batch_alter_table("jobs", schema=None) as batch_op:
        batch_op.add_column(sa.Column("progress", sa.JSON(none_as_null=True), nullable=True))
    _read_old_messages(op.get_bind())


def _read_old_messages(connection: sa.Connection) -> None:
    """Earlier versions said it in words only."""
    table = sa.table("endpoints", sa.column("id", sa.String), sa.column("name", sa.String))
    endpoints = {name: id_ for id_, name in connection.execute(sa.select(table.c.id, table.c.name))}
    of_adapters = _EVENTS.c.kind.startswith("attach.") | _EVENTS.c.kind.startswith("detach.")
    told = of_adapters | _EVENTS.c.kind.in_(_LAST_WORDS)
    columns = (_EVENTS.c.id, _EVENTS.c.subject_id, _EVENTS.c.kind, _EVENTS.c.message, _EVENTS.c.created_at)
    rows = connection.execute(sa.select(*columns).where(told).order_by(_EVENTS.c.id)).all()
    changes = list(_facts(rows, endpoints))
    statement = sa.update(_EVENTS).where(_EVENTS.c.id == sa.bindparam("event"))
    for start in range(0, len(changes), _AT_ONCE):
        connection.execute(statement, changes[start : start + _AT_ONCE])


def _facts(rows: Any, endpoints: dict[str, str]) -> Iterator[dict[str, Any]]:
    begun: dict[str, Any] = {}
    detached: dict[str, dict[str, Any]] = {}
    for row in rows:
        if row.kind == "detach.begun":
            adapter, _, endpoint = row.message.partition(" leaves ")
            detached[row.subject_id] = {"adapter": adapter, "endpoint": endpoint}
        if row.kind.startswith("detach."):
            facts = detached.get(row.subject_id, {})
            unloaded = {"unloaded": True} if row.message.endswith(" is unloaded") else {}
            yield {"event": row.id, "endpoint_id": endpoints.get(facts.get("endpoint", "")), "facts": facts | unloaded}
            continue
        if row.kind in _LAST_WORDS:
            name = row.message.partition(_LAST_WORDS[row.kind])[0]
            yield {"event": row.id, "endpoint_id": None, "facts": {"name": name}}
            continue
        if row.kind == _FIRST:
            begun[row.subject_id] = row
        if (begin := begun.get(row.subject_id)) is None:
            continue
        adapter, _, endpoint = begin.message.partition(" → ")
        facts = {"adapter": adapter, "endpoint": endpoint}
        step, failed, _ = row.message.partition(" failed: ") if row.kind == "attach.undone" else (row.kind[7:], "", "")
        cut_off = row.kind == "attach.undone" and not failed  # found by the next start, whenever that was
        if not cut_off:
            facts["step"] = step
        if row.kind in _ENDS:
            if not cut_off:
                facts["duration_ms"] = max(0, round((row.created_at - begin.created_at).total_seconds() * 1000))
            del begun[row.subject_id]
        yield {"event": row.id, "endpoint_id": endpoints.get(endpoint), "facts": facts}


def downgrade() -> None:
    with op.batch_alter_table("jobs", schema=None) as batch_op:
        batch_op.drop_column("progress")
    op.drop_index(_INDEX, "events")
    with op.batch_alter_table("events", schema=None) as batch_op:
        batch_op.drop_column("facts")
        batch_op.drop_column("endpoint_id")
