"""Stage `flow`: the transformer."""
