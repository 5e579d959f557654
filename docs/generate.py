"""Writes the pages of docs/reference that say what the code says: `make reference`. A test compares them."""

import inspect
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import typer

from flux_endpoint.api.app import ROUTES
from flux_endpoint.api.document import describe
from flux_endpoint.api.errors import HTTP_STATUS
from flux_endpoint.commands.app import app as cli
from flux_endpoint.core import errors
from flux_endpoint.core.catalog import FLUX_DEV, FLUX_SCHNELL
from flux_endpoint.core.endpoint import FLUX_ENDPOINTS
from flux_endpoint.core.errors import FluxEndpointError
from flux_endpoint.core.input_kinds import Kind
from flux_endpoint.core.inputs import INPUTS
from flux_endpoint.core.other_names import other_schemas
from flux_endpoint.core.worker import EXIT_DEVICE_FAILED
from flux_endpoint.settings import Settings, WorkerSettings
from flux_endpoint.settings.fields import PREFIX
from flux_endpoint.settings.reader import list_settings

FOLDER = Path(__file__).parent / "reference"
_NOTE = "<!-- Written by `make reference` from the code; change it there. -->"

_EXITS = {
    0: "All is done; of `serve` and `worker`: stopped by SIGTERM or Ctrl-C.",
    1: "Anything but what is below. Trying again may help: the database or the image store did not answer at the "
    "start of `serve`, or a gateway did not. Of `verify`: see [marks](../guides/marks.md#check-a-picture).",
    2: "A mistake on the command line, in a setting or in an input; an image store that has no such bucket or folder, "
    "or refuses access. Trying again does not help.",
    EXIT_DEVICE_FAILED: "Of `worker`: its device failed. Another process may use it.",
    78: "A model that cannot be loaded, a secret that is refused, or something named that is not there. Trying again "
    "does not help.",
}


def pages() -> dict[str, str]:
    """The generated pages by file name."""
    return {
        "settings.md": "\n".join(_settings()),
        "errors.md": "\n".join(_errors()),
        "cli.md": "\n".join(_commands()),
        "api.md": "\n".join(_routes()),
        "inputs.md": "\n".join(_inputs()),
    }


def _settings() -> Iterator[str]:
    yield from ("# Settings", "", _NOTE, "")
    yield f"Each is a variable `{PREFIX}NAME` and a command line option (`PORT`: `--port`). Options win over variables."
    known = {info.name for info in list_settings(Settings)}
    tables = {
        "flux-endpoint serve": list_settings(Settings),
        "flux-endpoint worker": [
            info for info in list_settings(WorkerSettings) if info.name not in known or info.name == "WORKER_TOKEN"
        ],
    }
    for command, infos in tables.items():
        yield from ("", f"## `{command}`", "", "| name | default | meaning | allowed |", "| --- | --- | --- | --- |")
        for info in infos:
            default = f"`{info.default}`" if info.default else ""
            yield f"| `{info.name}` | {default} | {_cell(info.description)} | {_cell(info.allowed)} |"
    shared = ", ".join(
        f"`{info.name}`" for info in list_settings(WorkerSettings) if info.name in known - {"WORKER_TOKEN"}
    )
    yield from ("", f"A worker started by hand also knows {shared}, as above.", "")


def _errors() -> Iterator[str]:
    yield from ("# Errors", "", _NOTE, "")
    yield 'Every error is JSON, `{"error": "..."}`, with a sentence that names the field and the limit. Wrong input is'
    yield 'answered 400 with a FAILED job, `{"id", "status": "FAILED", "error"}`, as on the model pages of the service.'
    yield from ("", "| HTTP | when |", "| --- | --- |")
    kinds = [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, FluxEndpointError)]
    rows = [(_status(kind), _cell(_first_line(kind))) for kind in kinds]
    for status, meaning in sorted(rows):
        # What has no code of its own never reaches a client: it is told at start, or to workers.
        if status != HTTP_STATUS[FluxEndpointError]:
            yield f"| {status} | {meaning} |"
    yield "| 500 | A bug: the server's log has the details. |"
    yield ""


def _status(kind: type[FluxEndpointError]) -> int:
    return next(HTTP_STATUS[base] for base in kind.__mro__ if base in HTTP_STATUS)


def _commands() -> Iterator[str]:
    yield from ("# Command line", "", _NOTE)
    root = typer.main.get_command(cli)
    yield from ("", inspect.cleandoc(root.help or ""))
    yield from _command(root, "flux-endpoint")
    yield from ("", "## Exit codes", "", "What went wrong is told in one line on standard error.")
    yield from ("", "| code | when |", "| --- | --- |", *(f"| {code} | {when} |" for code, when in _EXITS.items()))
    yield ""


def _command(command: Any, path: str) -> Iterator[str]:
    # Typer carries its own copy of click, so these are told apart by what they have.
    if hasattr(command, "commands"):
        for name, child in command.commands.items():
            yield from _command(child, f"{path} {name}")
        return
    yield from ("", f"## `{path}`", "", inspect.cleandoc(command.help or ""))
    rows = [row for parameter in command.params if (row := _parameter(parameter))]
    if rows:
        yield from ("", "| parameter | meaning |", "| --- | --- |", *rows)


def _parameter(parameter: Any) -> str | None:
    if getattr(parameter, "hidden", False) or parameter.name == "help":
        return None
    is_option = parameter.param_type_name == "option"
    names = ", ".join(f"`{name}`" for name in (parameter.opts if is_option else [parameter.name.upper()]))
    return f"| {names} | {_cell(getattr(parameter, 'help', None) or '')} |"


def _routes() -> Iterator[str]:
    yield from ("# HTTP API", "", _NOTE, "")
    yield "The same with schemas and examples is served at `/docs`, and as OpenAPI at `/openapi.json`."
    # Of the others, which few servers have, it is the same.
    shown = [FLUX_ENDPOINTS[spec.endpoint_id] for spec in (FLUX_DEV, FLUX_SCHNELL)]
    for path, operations in describe(ROUTES, shown)["paths"].items():
        for method, operation in operations.items():
            yield from _route(f"{method.upper()} {path}", operation)
    yield ""


def _route(title: str, operation: Mapping[str, Any]) -> Iterator[str]:
    yield from ("", f"## `{title}`", "", operation.get("description", operation["summary"]))
    queries = [parameter for parameter in operation.get("parameters", []) if parameter["in"] != "path"]
    if queries:
        yield from ("", "| parameter | in | meaning |", "| --- | --- | --- |")
        for query in queries:
            yield f"| `{query['name']}` | {query['in']} | {_cell(query.get('description', ''))} |"
    yield from ("", "| answer | |", "| --- | --- |")
    for status, response in operation["responses"].items():
        yield f"| {status} | {_cell(response['description'])} |"


def _inputs() -> Iterator[str]:
    yield from ("# Inputs", "", _NOTE, "")
    yield "What stands in `input` of the FLUX endpoints. Wrong input is refused before it is queued, with one line that"
    yield "names field and limit. Null counts as absent, but for the prompt."
    yield from ("", "| input | default | allowed | |", "| --- | --- | --- | --- |")
    for row in INPUTS:
        names = ", ".join(f"`{name}`" for name in (row.name, *row.aliases))
        yield f"| {names} | {row.in_words(_default)} | {row.in_words(lambda kind: kind.words)} | {row.help} |"
    yield from ("", "The same, read from the running server: `GET /v2/endpoints`, which needs no key.", "")
    yield "Every name in a row means the same; the first wins. What other servers' clients send is taken too:"
    yield from ("", "| field | |", "| --- | --- |")
    for name, schema in other_schemas({}, "").items():
        yield f"| `{name}` | {_cell(schema['description'])} |"
    yield from (
        "",
        "What is not heeded is named in `output.warnings` and in headers `X-Warning`: names that are not known, with",
    )
    yield "the nearest one that is, and values that change nothing. With the header `Prefer: handling=strict` such a"
    yield "request is refused instead: [why](../decisions/0044-nothing-ignored-in-silence.md)."
    yield from ("What a picture costs: [pricing](../concepts/pricing.md).", "")


def _default(kind: Kind) -> str:
    return "required" if kind.default is None else f"`{json.dumps(kind.default)}`"


def _first_line(kind: type) -> str:
    return (inspect.getdoc(kind) or "").splitlines()[0]


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


if __name__ == "__main__":
    for name, text in pages().items():
        (FOLDER / name).write_text(text.rstrip() + "\n")
