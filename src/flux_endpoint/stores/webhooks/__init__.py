"""Webhooks that wait to be sent, their log and their receivers."""
