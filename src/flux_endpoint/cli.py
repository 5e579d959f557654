"""The command `flux-endpoint`: what a person types, and what it says back."""

import gc
import sys
import time
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from flux_endpoint import __version__, cli_keys, cli_usage, cli_webhooks, cli_workers
from flux_endpoint.cli_options import part, with_settings
from flux_endpoint.core.catalog import ModelFamily
from flux_endpoint.core.errors import (
    CheckpointError,
    FluxEndpointError,
    InvalidRequest,
    NotFound,
    SettingsError,
    Unauthenticated,
)
from flux_endpoint.core.generation import GenerationRequest
from flux_endpoint.core.image_formats import IMAGE_FORMATS, ImageFormat, either, format_ending_in
from flux_endpoint.settings import Settings, WorkerSettings

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
models_app = typer.Typer(no_args_is_help=True, help="See which models are here, and whether one would run.")
app.add_typer(cli_keys.app, name="keys")
app.add_typer(cli_webhooks.app, name="webhooks")
app.add_typer(cli_workers.app, name="workers")
app.command()(cli_usage.usage)
app.add_typer(models_app, name="models")


_ENDINGS: Final = either([f".{row.extension}" for row in IMAGE_FORMATS.values()])
Format = StrEnum("Format", {name: name for name in IMAGE_FORMATS})  # type: ignore[misc]


class Endpoint(StrEnum):
    """The endpoints, by their short names."""

    DEV = "dev"
    SCHNELL = "schnell"


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


@app.command()
@with_settings(Settings)
def serve(*, settings: Settings) -> None:
    """Start a server and its workers, and print how to use them.

    Examples:
    - `flux-endpoint serve`

    - `flux-endpoint serve --port 9000 --data-dir /var/lib/flux`

    - `flux-endpoint serve --model black-forest-labs/FLUX.1-dev --schnell-model black-forest-labs/FLUX.1-schnell`

    Ctrl-C ends everything within 5 seconds; a picture that is being made is made after the next start.
    """
    if code := part("gateway").serve(settings):
        raise typer.Exit(code)


@app.command()
@with_settings(WorkerSettings)
def worker(
    *,
    settings: WorkerSettings,
    exit_with_parent: Annotated[bool, typer.Option("--exit-with-parent", hidden=True)] = False,
) -> None:
    """Join a server with one more worker, from this machine or any other that can reach it.

    The token is in the server's `DATA_DIR/worker-token`. Better in the environment than as an option: other users
    of a machine can read the arguments of your processes.

    Example:
    - `FLUX_ENDPOINT_WORKER_TOKEN=fxw_... flux-endpoint worker --gateway https://pictures.example.org`
    """
    part("worker").work(settings, exit_with_parent=exit_with_parent)


@app.command()
@with_settings(WorkerSettings, "model", "schnell_model", "device", "threads")
def generate(
    prompt: Annotated[str, typer.Argument(help="What to draw.", show_default=False)],
    *,
    settings: WorkerSettings,
    output: Annotated[Path, typer.Option("--output", "-o", help=f"File to write; {_ENDINGS}.")] = Path("flux.png"),
    endpoint: Annotated[Endpoint, typer.Option(help="Whose model, limits and defaults.")] = Endpoint.DEV,
    negative_prompt: Annotated[str | None, typer.Option(help="What to leave out; takes twice the time.")] = None,
    width: Annotated[int | None, typer.Option(help="Pixels: 256 to 1536, a multiple of 64; 1024 if not given.")] = None,
    height: Annotated[int | None, typer.Option(help="As width.")] = None,
    num_inference_steps: Annotated[
        int | None,
        typer.Option("--num-inference-steps", "--steps", help="1 to 50, 28 if not given; schnell 1 to 8, 4."),
    ] = None,
    guidance: Annotated[float | None, typer.Option(help="0 to 10: how closely to follow the prompt; dev only.")] = None,
    true_cfg_scale: Annotated[float | None, typer.Option(help="1 to 10: strength of the negative prompt.")] = None,
    seed: Annotated[int | None, typer.Option(help="The same seed draws the same picture; random if not given.")] = None,
    image_format: Annotated[Format | None, typer.Option(help="By the name of the file if not given.")] = None,
) -> None:
    """Make one picture on this machine, without a server.

    Examples:
    - `flux-endpoint generate "a lighthouse on a cliff at night" -o lighthouse.png`

    - `flux-endpoint generate "a misty lake at dawn" --endpoint schnell --width 768 --height 512 --seed 7`
    """
    given = {
        "prompt": prompt,
        "negative_prompt": negative_prompt,
        "width": width,
        "height": height,
        "num_inference_steps": num_inference_steps,
        "guidance": guidance,
        "true_cfg_scale": true_cfg_scale,
        "seed": seed,
        "image_format": image_format.value if image_format else _format_of(output).name,
    }
    if not output.parent.is_dir():
        raise SettingsError(f"the folder of {output} does not exist")
    family = ModelFamily(endpoint.value)
    fields = {name: value for name, value in given.items() if value is not None}
    request = part("offline").check_request(family, fields)
    started_s = time.monotonic()
    picture = _draw_with_progress(settings, family, request)
    taken_s = time.monotonic() - started_s
    try:
        output.write_bytes(picture.image.data)
    except OSError as error:
        raise SettingsError(f"{output} cannot be written: {error.strerror}") from None
    for warning in picture.image.warnings:
        print(f"warning: {warning}", file=sys.stderr)
    size = f"{request.width} x {request.height}"
    print(f"{output}: {size}, {request.num_inference_steps} steps, seed {request.seed}, {taken_s:.1f} s with loading")


@models_app.command("list")
def list_models() -> None:
    """List the models that are on this machine and can be used without a download."""
    table = Table("model", "size", "folder")
    for model in part("offline").list_local_models():
        table.add_row(model.source, f"{model.size_bytes / 1e6:,.0f} MB", model.location)
    Console().print(table, markup=False)


@models_app.command("check")
@with_settings(WorkerSettings, "model", "schnell_model", "device")
def check_model(
    source: Annotated[str | None, typer.Argument(help="As the setting MODEL; that setting if not given.")] = None,
    *,
    settings: WorkerSettings,
    schnell: Annotated[bool, typer.Option("--schnell", help="Check it for the Flux Schnell endpoint.")] = False,
) -> None:
    """Check that a model is complete, of the right kind, and fits into the memory of this machine.

    Examples:
    - `flux-endpoint models check demo`

    - `flux-endpoint models check black-forest-labs/FLUX.1-schnell --schnell` (downloads what is missing)
    """
    wanted = source or (settings.schnell_source if schnell else settings.model)
    if wanted is None:
        raise SettingsError("no Flux Schnell checkpoint: name one, or set FLUX_ENDPOINT_SCHNELL_MODEL")
    table = Table.grid(padding=(0, 2))
    family = ModelFamily.SCHNELL if schnell else ModelFamily.DEV
    for name, value in part("offline").check_model(wanted, family, settings.device):
        table.add_row(name, value)
    Console().print(table, markup=False)
    print("ok: this model runs here")


def _draw_with_progress(settings: WorkerSettings, family: ModelFamily, request: GenerationRequest) -> Any:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("loading the model", total=None)

        def on_loaded(model: Any) -> None:
            if model.notice:
                console.print(model.notice, markup=False, highlight=False)
            progress.reset(task, description="drawing", total=request.num_inference_steps)

        return part("offline").draw(settings, family, request, on_loaded, lambda _: progress.update(task, advance=1))


def _format_of(output: Path) -> ImageFormat:
    image_format = format_ending_in(output.suffix.lower().removeprefix("."))
    if image_format is None:
        raise SettingsError(f"{output} does not end in {_ENDINGS}: rename it or give --image-format")
    return image_format
