"""`flux-endpoint images`: the place where pictures are kept."""

import sys
from typing import Final

import typer

from flux_endpoint.commands.options import with_settings
from flux_endpoint.images.lifecycle import lifecycle_rule
from flux_endpoint.settings import Settings

app: Final = typer.Typer(help="Look after the place where pictures are kept.", no_args_is_help=True)


@app.callback()
def group() -> None:
    """Look after the place where pictures are kept."""


@app.command()
@with_settings(Settings, "data_dir", "image_store_url", "image_retention_days")
def lifecycle(*, settings: Settings) -> None:
    """Print the rule with which the bucket deletes old pictures by itself, as JSON.

    After IMAGE_RETENTION_DAYS, and 15 days at least: so long a job may wait for a picture that was sent with it. The
    command that sets it is printed on standard error. The server deletes expired pictures anyhow, to the hour; the rule
    holds when no server runs.

    Examples:
    - `flux-endpoint images lifecycle --image-store-url s3://pictures/flux > lifecycle.json`
    """
    rule = lifecycle_rule(settings.resolved_image_store_url, settings.image_retention_days)
    print(rule.text)
    print(f"set it with: {rule.command}", file=sys.stderr)
    if rule.is_for_all:
        print("careful: it deletes everything in there; give the pictures a prefix of their own", file=sys.stderr)
