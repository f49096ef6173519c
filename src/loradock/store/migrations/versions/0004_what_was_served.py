"""what was served: usage per caller, history per endpoint; who did what"""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def _sums() -> list[sa.Column[Any]]:
    counts = ("ok", "client_error", "server_error", "aborted", "prompt_tokens", "completion_tokens")
    return [
        sa.Column("id", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("start", sa.BigInteger(), nullable=False),
        sa.Column("span", sa.Integer(), nullable=False),
        sa.Column("endpoint_id", sa.String(length=64), nullable=False),
        *(sa.Column(name, sa.BigInteger(), nullable=False) for name in counts),
        *(sa.Column(name, sa.JSON(), nullable=False) for name in ("ttft", "per_token", "duration")),
    ]


def upgrade() -> None:
    op.create_table(
        "usage",
        *_sums(),
        sa.Column("account_id", sa.String(length=64), nullable=False),
        sa.Column("key_id", sa.String(length=64), nullable=False),
        sa.Column("model", sa.String(length=200), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_usage")),
    )
    op.create_index("ix_usage_span_start", "usage", ["span", "start"])
    op.create_index("ix_usage_account_id_start", "usage", ["account_id", "start"])
    op.create_index("ix_usage_endpoint_id_start", "usage", ["endpoint_id", "start"])
    op.create_table(
        "endpoint_history",
        *_sums(),
        sa.Column("samples", sa.Integer(), nullable=False),
        sa.Column("in_flight", sa.BigInteger(), nullable=False),
        sa.Column("peak", sa.Integer(), nullable=False),
        *(sa.Column(name, sa.BigInteger(), nullable=False) for name in ("ready", "starting", "desired", "attachments")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_endpoint_history")),
    )
    op.create_index("ix_endpoint_history_span_start", "endpoint_history", ["span", "start"])
    op.create_index("ix_endpoint_history_endpoint_id_start", "endpoint_history", ["endpoint_id", "start"])
    with op.batch_alter_table("events", schema=None) as batch_op:
        batch_op.add_column(sa.Column("actor", sa.String(length=200), nullable=False, server_default="loradock"))


def downgrade() -> None:
    with op.batch_alter_table("events", schema=None) as batch_op:
        batch_op.drop_column("actor")
    op.drop_table("endpoint_history")
    op.drop_table("usage")
