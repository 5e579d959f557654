"""Runpod's wire format as a whole."""

from typing import Final

from flux_endpoint.api.dialects.protocol import Dialect
from flux_endpoint.api.dialects.runpod.answers import webhook_body
from flux_endpoint.api.dialects.runpod.apps import app_routes
from flux_endpoint.api.dialects.runpod.jobs import DIALECT
from flux_endpoint.api.dialects.runpod.operations import ROUTES

RUNPOD: Final = Dialect(DIALECT, (*ROUTES, *app_routes(ROUTES)), webhook_body)
