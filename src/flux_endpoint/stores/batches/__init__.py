"""Batches: drafts of many requests, and the jobs they become."""
