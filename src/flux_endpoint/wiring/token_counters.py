"""What counts the tokens of prompts for clients that have not sent them yet."""

import functools
import importlib
import importlib.util
from collections.abc import Mapping
from typing import Final

from flux_endpoint.core.catalog import CATALOG, is_fake
from flux_endpoint.core.prompt_tokens import CountTokens, PromptTokens
from flux_endpoint.settings import Settings
from flux_endpoint.settings.engine import EMBEDDED

_FLUX1: Final = "flux1"


def token_counters(settings: Settings) -> Mapping[str, CountTokens]:
    """A counter for each endpoint that a model draws for, by id; none where the extra `engine` is not installed.

    All real weights are counted with FLUX.1's own tokenizers, whatever files lie beside them: the workers that have
    these may be on other machines.
    """
    if importlib.util.find_spec("tokenizers") is None:
        return {}
    return {
        endpoint_id: functools.partial(_count, EMBEDDED if source == EMBEDDED else _FLUX1, endpoint_id)
        for endpoint_id, source in settings.sources.items()
        if not is_fake(source)
    }


def _count(model: str, endpoint_id: str, prompt: str) -> PromptTokens:
    # Not at the start: a gateway that nobody asks needs none of it.
    counts = importlib.import_module("flux_endpoint.engine.token_counts")
    tokens: PromptTokens = counts.count_tokens(model, prompt, CATALOG[endpoint_id].max_text_tokens)
    return tokens
