"""Puts the parts together: the only place that picks concrete classes.

One module for each thing the program can be, so that each loads only its own part: a gateway never loads PyTorch, a
worker never loads the web framework.
"""
