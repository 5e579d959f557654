"""What the files of commands share: settings and inputs as options, and times for people."""

import inspect
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, Any, Final

import typer

from flux_endpoint.core.input_kinds import PictureFile
from flux_endpoint.core.inputs import INPUTS, Input
from flux_endpoint.core.lora import LoraList
from flux_endpoint.settings import Settings, WorkerSettings
from flux_endpoint.settings.reader import SettingInfo, list_settings, load_settings

_TYPES: Final = {"string": str, "integer": int, "number": float}
_SETTINGS_PANEL: Final = "Settings (each also as a variable: --port as FLUX_ENDPOINT_PORT)"


def with_settings(kind: type[Settings] | type[WorkerSettings], *names: str) -> Callable[[Callable[..., None]], Any]:
    """Give a command one option for each setting (or for those of `names`); they reach it as `settings`.

    Values stay text here: `load_settings` checks them, so that options and variables get the same errors.
    """
    fields = [info for info in list_settings(kind) if not names or info.name.lower() in names]
    parameters = [_setting_option(info) for info in fields]

    def read(given: dict[str, Any]) -> Any:
        return load_settings(kind, given)

    return _with_options("settings", parameters, read)


def with_inputs(**defaults: str) -> Callable[[Callable[..., None]], Any]:
    """Give a command one option for each input of a picture, and an argument for each that must be given.

    They reach it as `fields`, those that were given, still to be checked.

    Args:
        defaults: in words, of the inputs for which the command has one of its own.
    """

    def read(given: dict[str, Any]) -> dict[str, Any]:
        fields = {name: value for name, value in given.items() if value is not None}
        if fields.get("control_mode", "").isdecimal():
            fields["control_mode"] = int(fields["control_mode"])
        if "loras" in fields:
            fields["loras"] = [_lora(text) for text in fields["loras"]]
        return fields

    return _with_options("fields", [_input_option(row, defaults.get(row.name)) for row in INPUTS], read)


def _with_options(
    name: str, parameters: Sequence[inspect.Parameter], read: Callable[[dict[str, Any]], Any]
) -> Callable[[Callable[..., None]], Any]:
    """Replace a parameter of a command by others, of which its value is read."""

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        def run(**given: Any) -> None:
            value = read({parameter.name: given.pop(parameter.name) for parameter in parameters})
            command(**{name: value}, **given)

        own = [parameter for parameter in inspect.signature(command).parameters.values() if parameter.name != name]
        run.__name__, run.__doc__ = command.__name__, command.__doc__
        run.__signature__ = inspect.Signature([*own, *parameters])  # type: ignore[attr-defined]
        return run

    return decorate


def _setting_option(info: SettingInfo) -> inspect.Parameter:
    # Short for people; the long form is the setting's name.
    declarations = [info.option, "--token"] if info.option == "--worker-token" else [info.option]
    option = typer.Option(
        *declarations,
        help=f"{info.description} Default: {info.default}." if info.default else info.description,
        metavar="TEXT",
        show_default=False,
        rich_help_panel=_SETTINGS_PANEL,
    )
    return _parameter(info.name.lower(), str, option)


def _input_option(row: Input, default: str | None) -> inspect.Parameter:
    words = row.in_words(lambda kind: kind.file_words if isinstance(kind, PictureFile) else kind.words)
    allowed = f"{row.help} Allowed: {words}."
    if row.kind.default is None:
        argument = typer.Argument(help=allowed, show_default=False)
        return inspect.Parameter(row.name, inspect.Parameter.KEYWORD_ONLY, annotation=Annotated[str, argument])
    if isinstance(row.kind, LoraList):
        option = typer.Option("--lora", help=f"{allowed} Any number of times.", metavar="NAME[:SCALE]")
        return _parameter(row.name, list[str], option)
    preset = default or row.in_words(lambda kind: str(kind.default))
    names = [option_name(name) for name in (row.name, *row.aliases)]
    option = typer.Option(*names, help=f"{allowed} Default: {preset}." if preset else allowed, show_default=False)
    schema = row.kind.schema(row.help)
    if isinstance(schema["type"], list):
        # A name or a number: which ones, the help says.
        return _parameter(row.name, str, option)
    choices = {choice: choice for choice in schema.get("enum", ())}
    kind: Any = StrEnum(row.name, choices) if choices else _TYPES[schema["type"]]
    return _parameter(row.name, kind, option)


def option_name(name: str) -> str:
    """The option of an input."""
    return f"--{name.replace('_', '-')}"


def _lora(text: str) -> dict[str, Any]:
    name, _, scale = text.rpartition(":")
    try:
        return {"path": name, "scale": float(scale)} if name else {"path": text}
    except ValueError:
        return {"path": text}


def _parameter(name: str, kind: Any, option: Any) -> inspect.Parameter:
    annotation = Annotated[kind | None, option]
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)


def day(time_ms: int) -> str:
    """A time of ours (milliseconds since 1970-01-01 UTC) to the minute."""
    return datetime.fromtimestamp(time_ms / 1_000, UTC).strftime("%Y-%m-%d %H:%M UTC")
