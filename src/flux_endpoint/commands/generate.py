"""`flux-endpoint generate`: pictures without a server."""

import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from flux_endpoint.commands.model_choice import MODEL_SETTINGS, add_ons_of, model_of
from flux_endpoint.commands.options import option_name, with_inputs, with_settings
from flux_endpoint.commands.source_files import with_files
from flux_endpoint.core.catalog import ModelFamily, ModelSpec
from flux_endpoint.core.endpoint import NEED_A_PICTURE
from flux_endpoint.core.errors import SettingsError
from flux_endpoint.core.generation import GenerationRequest, parse_input
from flux_endpoint.core.image_formats import IMAGE_FORMATS, ImageFormat, either, format_ending_in
from flux_endpoint.core.inputs import not_taken
from flux_endpoint.engine.factory import build_engines
from flux_endpoint.engine.protocol import EncodedImage, Engine, StepDone, finish
from flux_endpoint.files.lora_shelf import shelf_of
from flux_endpoint.settings import WorkerSettings
from flux_endpoint.settings.engine import EMBEDDED
from flux_endpoint.wiring.file_rules import file_rules
from flux_endpoint.wiring.threads import let_threads_sleep, threads_per_worker

_ENDINGS: Final = either([f".{row.extension}" for row in IMAGE_FORMATS.values()])


@with_settings(
    WorkerSettings,
    *(*MODEL_SETTINGS, "device", "memory", "threads", "lora_dir"),
    *("prompts_in_files", "c2pa_cert", "c2pa_key"),
)
@with_inputs(image_format="by the name of the file")
def generate(
    *,
    settings: WorkerSettings,
    fields: dict[str, Any],
    output: Annotated[
        Path, typer.Option("--output", "-o", help=f"File to write; {_ENDINGS}. Of several, further ones end in -2, -3.")
    ] = Path("flux.png"),
    endpoint: Annotated[ModelFamily, typer.Option(help="Whose model, limits and defaults.")] = ModelFamily.DEV,
) -> None:
    """Make a picture, or several, on this machine, without a server.

    Examples:
    - `flux-endpoint generate "a calm sea at night, full moon" -o sea.png`

    - `flux-endpoint generate "a lake at dawn" --endpoint schnell --width 768 --height 512 --seed 7`

    - `flux-endpoint generate "a red house on a meadow" --num-images 4 -o house.jpg`

    - `flux-endpoint generate "a lake at dawn" --image lake.jpg --strength 0.7 -o dawn.jpg`
    """
    if "image_format" not in fields:
        fields["image_format"] = _format_of(output).name
    if not output.parent.is_dir():
        raise SettingsError(f"the folder of {output} does not exist")
    fields, sources = with_files(fields)
    spec, source = model_of(settings, endpoint)
    _refuse_idle(fields, spec)
    shelf = shelf_of(settings.lora_dir, is_embedded=source == EMBEDDED)
    redux, controlnet = settings.has_redux(spec), settings.controlnet_of(spec)
    request = parse_input(fields, spec, shelf=shelf, has_redux=redux, controlnet=controlnet)
    started_s = time.monotonic()
    images = _draw_with_progress(_engine(settings, spec, source), request, sources)
    taken_s = time.monotonic() - started_s
    for number, image in enumerate(images, start=1):
        _write(image, _numbered(output, number))
    for warning in images[0].warnings:
        print(f"warning: {warning}", file=sys.stderr)
    about = f"{request.width} x {request.height}, {request.steps_to_draw} steps"
    for number, picture in enumerate(request.pictures[:-1], start=1):
        print(f"{_numbered(output, number)}: {about}, seed {picture.seed}")
    last, seed = _numbered(output, request.num_images), request.pictures[-1].seed
    print(f"{last}: {about}, seed {seed}, {taken_s:.1f} s with loading")


def _refuse_idle(fields: Mapping[str, Any], spec: ModelSpec) -> None:
    """Refuse what would have no effect: whoever gives it means another picture than would be drawn."""
    for name in fields:
        if name in not_taken(spec):
            raise SettingsError(f"{option_name(name)} has no effect on {spec.display_name}: leave it out")
        picture, words = NEED_A_PICTURE.get(name, (name, ""))
        if not fields.get(picture) and words:
            raise SettingsError(f"{option_name(name)} has no effect without {words} ({option_name(picture)})")


def _numbered(output: Path, number: int) -> Path:
    """The file of one of several pictures; the first has the name as it was given."""
    return output if number == 1 else output.with_stem(f"{output.stem}-{number}")


def _write(image: EncodedImage, file: Path) -> None:
    try:
        file.write_bytes(image.data)
    except OSError as error:
        raise SettingsError(f"{file} cannot be written: {error.strerror}") from None


def _draw_with_progress(engine: Engine, request: GenerationRequest, sources: Mapping[str, bytes]) -> list[EncodedImage]:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("loading the model", total=None)
        engine.load()
        if engine.info.notice:
            console.print(engine.info.notice, markup=False, highlight=False)
        progress.reset(task, description="drawing", total=request.steps_to_draw * request.num_images)
        try:
            return [
                _drawn(engine, picture, sources, lambda _: progress.update(task, advance=1))
                for picture in request.pictures
            ]
        finally:
            engine.close()


def _drawn(
    engine: Engine,
    picture: GenerationRequest,
    sources: Mapping[str, bytes],
    on_step: Callable[[StepDone], object],
) -> EncodedImage:
    drawing = engine.generate(picture, sources)
    try:
        return finish(drawing, on_step)
    finally:
        drawing.close()


def _engine(settings: WorkerSettings, spec: ModelSpec, source: str) -> Engine:
    let_threads_sleep()
    # As many as `serve` gives its only worker: another number would draw other last bits.
    threads = settings.threads or threads_per_worker(1)
    return build_engines(
        {spec.endpoint_id: source},
        {spec.endpoint_id: spec},
        device=settings.device,
        threads=threads,
        memory=settings.memory,
        add_ons=add_ons_of(settings),
        rules=file_rules(settings),
        lora_dir=settings.lora_dir,
    )[spec.endpoint_id]


def _format_of(output: Path) -> ImageFormat:
    image_format = format_ending_in(output.suffix.lower().removeprefix("."))
    if image_format is None:
        raise SettingsError(f"{output} does not end in {_ENDINGS}: rename it or give --image-format")
    return image_format
