"""The process that pulls jobs from a gateway and runs them on one engine."""
