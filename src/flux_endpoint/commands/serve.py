"""`flux-endpoint serve`: a gateway and its workers."""

import typer

from flux_endpoint.commands.options import with_settings
from flux_endpoint.settings import Settings


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

    if code := run(settings):
        raise typer.Exit(code)
