"""HTTP to places that clients name, under the rules of `core/outbound.py`."""
