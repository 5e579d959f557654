"""Alembic's entry: runs migrations on the connection that `stores/sql/migrate.py` hands over."""

from alembic import context

from flux_endpoint.stores.sql.schema import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    # SQLite cannot alter most of a table in place.
    render_as_batch=True,
)
with context.begin_transaction():
    context.run_migrations()
