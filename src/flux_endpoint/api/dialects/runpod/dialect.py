"""Runpod's wire format as a whole."""

from typing import Final

from flux_endpoint.api.dialects.protocol import Dialect
from flux_endpoint.api.dialects.runpod.ids import DIALECT
from flux_endpoint.api.dialects.runpod.operations import ROUTES
from flux_endpoint.api.schemas import webhook_body

RUNPOD: Final = Dialect(DIALECT, ROUTES, webhook_body)
