"""`make soak`: clients of every kind and all that goes wrong at once; then an audit. See docs/reliability.md."""
