"""Where jobs, keys and charges are kept: one protocol, one SQL implementation for SQLite and PostgreSQL."""
