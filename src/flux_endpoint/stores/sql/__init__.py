"""One database under all stores: tables, migrations, connections, signals."""
