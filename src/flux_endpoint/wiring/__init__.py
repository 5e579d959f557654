"""Puts a gateway together: the only place that picks concrete classes. `serve` runs it, the tests use its services."""
