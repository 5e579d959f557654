"""Runpod's wire format, and what this server adds to it under the same paths."""
