"""`flux-endpoint models`: which models are here, and whether one would run."""

import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from flux_endpoint.commands.listing import AsJson, print_json
from flux_endpoint.commands.model_choice import MODEL_SETTINGS, add_ons_of, model_of
from flux_endpoint.commands.options import with_settings
from flux_endpoint.core.catalog import ModelFamily, is_fake
from flux_endpoint.core.errors import CheckpointError
from flux_endpoint.engine.factory import check_source, list_local_models, name_component
from flux_endpoint.engine.report import ComponentReport
from flux_endpoint.files.lora_outline import outline
from flux_endpoint.files.lora_shelf import shelf_of
from flux_endpoint.settings import WorkerSettings
from flux_endpoint.settings.engine import EMBEDDED

app = typer.Typer(no_args_is_help=True, help="See which models are here, and whether one would run.")


@app.command("list")
def list_models(*, as_json: AsJson = False) -> None:
    """List the models that are on this machine and can be used without a download."""
    if as_json:
        found = list_local_models()
        print_json([{"model": one.source, "bytes": one.size_bytes, "folder": one.location} for one in found])
        return
    table = Table("model", "size", "folder")
    for model in list_local_models():
        table.add_row(model.source, f"{model.size_bytes / 1e6:,.0f} MB", model.location)
    Console().print(table, markup=False)


@app.command("loras")
@with_settings(WorkerSettings, "model", "lora_dir")
def list_loras(*, settings: WorkerSettings, as_json: AsJson = False) -> None:
    """List the LoRAs that requests may name, and say of each what it changes, or why it cannot be applied."""
    shelf = shelf_of(settings.lora_dir, is_embedded=settings.model == EMBEDDED)
    rows: list[dict[str, Any]] = [
        {"name": name, "bytes": file.stat().st_size} | _about(file) for name, file in shelf.files()
    ]
    if as_json:
        print_json(rows)
        return
    table = Table("name", "size", "what it is")
    for row in rows:
        table.add_row(row["name"], f"{row['bytes'] / 1e6:,.1f} MB", row.get("problem") or row["changes"])
    Console().print(table, markup=False)


def _about(file: Path) -> dict[str, Any]:
    try:
        layers = outline(file)
    except CheckpointError as error:
        return {"problem": str(error)}
    forms = ", ".join(sorted({layer.form.value for layer in layers}))
    towers = ", ".join(sorted({layer.layer.tower.value for layer in layers}))
    modules = sum(len(layer.layer.modules) for layer in layers)
    return {"changes": f"{forms}: {modules} layers of {towers}"}


@app.command("check")
@with_settings(WorkerSettings, *MODEL_SETTINGS, "device", "memory")
def check_models(
    sources: Annotated[
        list[str] | None, typer.Argument(help="As the setting MODEL; that setting if not given.")
    ] = None,
    *,
    settings: WorkerSettings,
    endpoint: Annotated[ModelFamily, typer.Option(help="Check it for this endpoint.")] = ModelFamily.DEV,
    schnell: Annotated[bool, typer.Option("--schnell", help="As `--endpoint schnell`.")] = False,
) -> None:
    """Say what files are, and whether a model is complete, of the right kind, and fits into the memory of this machine.

    Examples:
    - `flux-endpoint models check demo`

    - `flux-endpoint models check black-forest-labs/FLUX.1-schnell --endpoint schnell` (downloads what is missing)

    - `flux-endpoint models check ComfyUI/models/unet/flux1-dev-Q4_K_S.gguf`

    - `flux-endpoint models check "transformer=flux1-dev.gguf vae=ae.safetensors clip=clip_l.safetensors t5=t5xxl.gguf"`
    """
    family = ModelFamily.SCHNELL if schnell else endpoint
    refused = []
    for source in sources or [model_of(settings, family)[1]]:
        try:
            _check(source, family, settings)
        except CheckpointError as error:
            refused.append(error)
    for earlier in refused[:-1]:
        print(f"flux-endpoint: {earlier}", file=sys.stderr)
    if refused:
        raise refused[-1]


def _check(source: str, family: ModelFamily, settings: WorkerSettings) -> None:
    component = None if is_fake(source) else name_component(source)
    if component is not None:
        print(f"ok: {source} is {component}")
        return
    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True)
    # Links and paths that are wider than the terminal go on in the next line, and not behind three dots.
    table.add_column(overflow="fold")
    for name, value in _rows(source, family, settings):
        table.add_row(name, value)
    Console().print(table, markup=False)
    print("ok: this model runs here")


def _rows(source: str, family: ModelFamily, settings: WorkerSettings) -> list[tuple[str, str]]:
    if is_fake(source):
        return [("source", source), ("family", family.value), ("note", "no model: flat colours, for tests")]
    report = check_source(
        source, family, device=settings.device, download=True, memory=settings.memory, add_ons=add_ons_of(settings)
    )
    rows = [
        ("source", report.source),
        ("files", report.location),
        ("model", f"FLUX.1 {report.variant}"),
        ("family", report.family.value),
        ("device", report.device),
        ("memory", str(report.memory)),
    ]
    if report.operations_per_s is not None:
        seconds = report.step_operations / report.operations_per_s
        rows.append(("a step", f"about {seconds:.2g} s at 1024 x 1024: an estimate, from the speed of products here"))
    rows += [(component.name, _row(component, Path(report.location))) for component in report.components]
    return [*rows, ("note", report.notice)] if report.notice else rows


def _row(component: ComponentReport, folder: Path) -> str:
    stored = ", ".join(component.ways or component.dtypes)
    first, *more = component.files
    place = first.relative_to(folder) if first.is_relative_to(folder) else first
    files = f"{1 + len(more)} files in {place.parent}" if more else str(place)
    return f"{component.kind}; {component.parameters / 1e6:,.1f} M parameters, {stored}; {files}"
