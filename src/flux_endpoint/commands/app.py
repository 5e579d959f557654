"""The command `flux-endpoint`: its parts, and how mistakes are told."""

import gc
import sys
from collections.abc import Sequence
from typing import Annotated, Final

import typer

from flux_endpoint import __version__
from flux_endpoint.commands import (
    db,
    finish,
    generate,
    images,
    keys,
    models,
    serve,
    usage,
    verify,
    webhooks,
    worker,
    workers,
)
from flux_endpoint.core.errors import (
    CheckpointError,
    FluxEndpointError,
    InvalidRequest,
    NotFound,
    SettingsError,
    Unauthenticated,
)

EXIT_CODES: Final[dict[type[FluxEndpointError], int]] = {
    # 2 is what a mistake on the command line has always ended with.
    SettingsError: 2,
    InvalidRequest: 2,
    # 78 is EX_CONFIG of sysexits.h: trying again will not help. `serve` does not restart a worker that ends so.
    CheckpointError: 78,
    Unauthenticated: 78,
    NotFound: 78,
    FluxEndpointError: 1,
}

app = typer.Typer(
    name="flux-endpoint",
    help="A self-hosted FLUX.1 image endpoint that speaks the wire format of Runpod's public endpoints.",
    epilog="Start here: flux-endpoint serve. It prints a curl line that makes the first picture.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
)
app.command()(serve.serve)
app.command()(worker.worker)
app.command()(generate.generate)
app.command()(finish.finish)
app.command()(usage.usage)
app.command()(verify.verify)
for noun in (keys, webhooks, workers, models, images, db):
    app.add_typer(noun.app, name=noun.__name__.rpartition(".")[2])


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command and exit; what went wrong is told in one line."""
    try:
        app(arguments)
    except FluxEndpointError as error:
        text = " ".join(str(error).split())
        print(f"flux-endpoint: {text}", file=sys.stderr)
        sys.exit(next(EXIT_CODES[kind] for kind in type(error).__mro__ if kind in EXIT_CODES))
    finally:
        # Spares the interpreter a last search through all that was imported: a second of every Ctrl-C.
        gc.freeze()


@app.callback(invoke_without_command=True)
def options(
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.", is_eager=True)] = False,
) -> None:
    """Holds the options that belong to no command."""
    if version:
        print(f"flux-endpoint {__version__}")
        raise typer.Exit
