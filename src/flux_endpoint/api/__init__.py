"""The HTTP edge of the gateway."""
