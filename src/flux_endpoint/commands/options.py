"""What the files of commands share: settings as options, and times for people."""

import inspect
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Annotated, Any, Final

import typer

from flux_endpoint.settings import Settings, WorkerSettings
from flux_endpoint.settings_reader import list_settings, load_settings

_SETTINGS_PANEL: Final = "Settings (each also as a variable: --port as FLUX_ENDPOINT_PORT)"


def with_settings(kind: type[Settings] | type[WorkerSettings], *names: str) -> Callable[[Callable[..., None]], Any]:
    """Give a command one option for each setting (or for those of `names`); they reach it as `settings`.

    Values stay text here: `load_settings` checks them, so that options and variables get the same errors.
    """
    fields = [info for info in list_settings(kind) if not names or info.name.lower() in names]

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        def run(**given: Any) -> None:
            options = {info.name.lower(): given.pop(info.name.lower()) for info in fields}
            command(settings=load_settings(kind, options), **given)

        own = [parameter for name, parameter in inspect.signature(command).parameters.items() if name != "settings"]
        generated = []
        for info in fields:
            # Short for people; the long form is the setting's name.
            declarations = [info.option, "--token"] if info.option == "--worker-token" else [info.option]
            option = typer.Option(
                *declarations,
                help=f"{info.description} Default: {info.default}." if info.default else info.description,
                metavar="TEXT",
                show_default=False,
                rich_help_panel=_SETTINGS_PANEL,
            )
            generated.append(
                inspect.Parameter(
                    info.name.lower(),
                    inspect.Parameter.KEYWORD_ONLY,
                    default=None,
                    annotation=Annotated[str | None, option],
                )
            )
        run.__name__, run.__doc__ = command.__name__, command.__doc__
        run.__signature__ = inspect.Signature([*own, *generated])  # type: ignore[attr-defined]
        return run

    return decorate


def day(time_ms: int) -> str:
    """A time of ours (milliseconds since 1970-01-01 UTC) to the minute."""
    return datetime.fromtimestamp(time_ms / 1_000, UTC).strftime("%Y-%m-%d %H:%M UTC")
