"""A key keeps the model that its client has chosen, for clients that choose before they ask."""

import sqlalchemy as sa
from alembic import op

revision = "0029"
down_revision = "0028"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("api_keys", sa.Column("chosen_model", sa.Text))
