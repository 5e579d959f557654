"""Turns a request into an encoded picture, step by step. Knows nothing of HTTP or jobs."""
