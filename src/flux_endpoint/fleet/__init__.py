"""Starts and stops workers."""
