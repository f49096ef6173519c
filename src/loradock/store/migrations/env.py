"""Alembic's entry: runs on the connection that store.database.migrate hands over."""

from alembic import context

from loradock.store.usage import UsageRow

connection = context.config.attributes["connection"]
context.configure(connection=connection, target_metadata=UsageRow.metadata, render_as_batch=True)
with context.begin_transaction():
    context.run_migrations()
