"""What the server did, in figures."""
