"""The wire format of OpenAI's images as a whole."""

from typing import Final

from flux_endpoint.api.dialects.openai.operations import ROUTES
from flux_endpoint.api.dialects.openai.words import DIALECT
from flux_endpoint.api.dialects.protocol import Dialect

OPENAI: Final = Dialect(DIALECT, ROUTES)
