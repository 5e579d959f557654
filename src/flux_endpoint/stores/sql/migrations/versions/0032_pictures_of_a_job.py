"""Several pictures of one job, on their way."""

import sqlalchemy as sa
from alembic import op

revision = "0032"
down_revision = "0031"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table("pending_pictures") as batch:
        batch.add_column(sa.Column("number", sa.Integer, nullable=False, server_default="0"))
        batch.drop_constraint("uq_pending_pictures_job_id", type_="unique")
        batch.create_unique_constraint("uq_pending_pictures_job_id", ["job_id", "claim_token", "number"])
