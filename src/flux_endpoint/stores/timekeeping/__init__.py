"""One time for all gateways on a database."""
