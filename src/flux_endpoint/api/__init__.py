"""The HTTP edge of the gateway. Wire names live here only."""
