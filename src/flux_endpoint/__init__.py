"""A self-hosted FLUX.1 image endpoint that speaks the wire format of Runpod's public endpoints."""

__version__ = "0.1.0"
