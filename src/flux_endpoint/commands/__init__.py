"""The command `flux-endpoint`: what a person types, and what it says back. One file for each noun.

What takes long to import (PyTorch, SQLAlchemy, the web framework, aiohttp) is imported by the function that needs it:
neither `--help` nor a worker's start may wait for what they do not use.
"""
