"""`flux-endpoint serve`: a gateway and its workers."""

import typer

from flux_endpoint.commands.model_choice import add_ons_of
from flux_endpoint.commands.options import with_settings
from flux_endpoint.core.catalog import CATALOG
from flux_endpoint.engine.factory import refuse_unloadable, refuse_unloadable_add_ons
from flux_endpoint.settings import Settings
from flux_endpoint.settings.engine import EMBEDDED
from flux_endpoint.wiring.file_rules import file_rules


@with_settings(Settings)
def serve(*, settings: Settings) -> None:
    """Start a server and its workers, and print how to use them.

    Examples:
    - `flux-endpoint serve`

    - `flux-endpoint serve --port 9000 --data-dir /var/lib/flux`

    - `flux-endpoint serve --model black-forest-labs/FLUX.1-dev --schnell-model black-forest-labs/FLUX.1-schnell`

    Ctrl-C ends everything within 5 seconds; a picture that is being made is made after the next start.
    """
    from flux_endpoint.wiring.gateway import serve as run

    if settings.fleet == "local" and settings.keeps_workers:
        # Before anything is started: a worker would say the same after it has taken seconds to import torch.
        for endpoint_id, source in settings.sources.items():
            if source != EMBEDDED:
                refuse_unloadable(source, CATALOG[endpoint_id].family)
                refuse_unloadable_add_ons(add_ons_of(settings), source, CATALOG[endpoint_id].family)
        # Each of them would say the same.
        file_rules(settings)
    if code := run(settings):
        raise typer.Exit(code)
