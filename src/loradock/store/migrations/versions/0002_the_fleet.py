"""the fleet: which engine, starting on request, what a replica was started with"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    engine = sa.Enum("embedded", "vllm", name="enginekind", native_enum=False, length=16)
    with op.batch_alter_table("deployments", schema=None) as batch_op:
        batch_op.add_column(sa.Column("engine", engine, nullable=False, server_default="embedded"))
        batch_op.add_column(sa.Column("auto_start", sa.Boolean(), nullable=False, server_default=sa.false()))
    with op.batch_alter_table("replicas", schema=None) as batch_op:
        batch_op.add_column(sa.Column("settings", sa.String(length=64), nullable=True))


def downgrade() -> None:
    with op.batch_alter_table("replicas", schema=None) as batch_op:
        batch_op.drop_column("settings")
    with op.batch_alter_table("deployments", schema=None) as batch_op:
        batch_op.drop_column("auto_start")
        batch_op.drop_column("engine")
