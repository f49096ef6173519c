"""quantization: in how many bits an endpoint's engines keep the base model's weights"""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    bits = sa.Enum("none", "int8", "int4", name="endpointquantization", native_enum=False, length=16)
    with op.batch_alter_table("deployments", schema=None) as batch_op:
        batch_op.add_column(sa.Column("quantization", bits, nullable=True))


def downgrade() -> None:
    with op.batch_alter_table("deployments", schema=None) as batch_op:
        batch_op.drop_column("quantization")
