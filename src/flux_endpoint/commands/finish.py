"""`flux-endpoint finish`: a draft on a server, drawn to its end."""

import asyncio
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final
from urllib.parse import quote

import typer

from flux_endpoint.commands.model_choice import spec_of
from flux_endpoint.commands.options import with_settings
from flux_endpoint.core.catalog import ModelFamily
from flux_endpoint.core.errors import (
    Conflict,
    FluxEndpointError,
    Forbidden,
    InvalidRequest,
    NotFound,
    SettingsError,
    Unauthenticated,
)
from flux_endpoint.core.job import JobStatus
from flux_endpoint.settings import Settings

if TYPE_CHECKING:
    from flux_endpoint.worker.connection import Reply

# `status-sync` is held for 90 s.
_SILENCE_S: Final = 120.0
_OK: Final = 200
_ERRORS: Final[dict[int, type[FluxEndpointError]]] = {
    400: InvalidRequest,
    401: Unauthenticated,
    403: Forbidden,
    404: NotFound,
    409: Conflict,
}


@with_settings(Settings, "data_dir", "api_key", "port")
def finish(
    job: Annotated[str, typer.Argument(metavar="JOB_ID", help="Of the draft's job.", show_default=False)],
    *,
    settings: Settings,
    picture: Annotated[int | None, typer.Option(help="Which of the draft's pictures, 1 for the first.")] = None,
    endpoint: Annotated[ModelFamily, typer.Option(help="Whose draft it is.")] = ModelFamily.DEV,
    server: Annotated[
        str | None, typer.Option(metavar="URL", help="Of the server. Default: on this machine, at its port.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="File to write; else the link is shown.")
    ] = None,
) -> None:
    """Draw the steps that a draft (`stop_after`) on a running server has left out, and wait for the picture.

    Examples:
    - `flux-endpoint finish sync-5d1c3bd2-... --picture 3 -o castle.png`
    """
    url = server or f"http://127.0.0.1:{settings.port}"
    asked: dict[str, Any] = {} if picture is None else {"picture": picture}
    path = f"/v2/{spec_of(endpoint).endpoint_id}"
    shown, data = asyncio.run(_finish(url, _key(settings), path, job, asked, with_file=output is not None))
    if output is not None:
        try:
            output.write_bytes(data)
        except OSError as error:
            raise SettingsError(f"{output} cannot be written: {error.strerror}") from None
    print(f"{output or shown['image_url']}: seed {shown['seed']}, {shown['cost']} USD")


async def _finish(
    url: str, key: str, path: str, job_id: str, asked: dict[str, Any], *, with_file: bool
) -> tuple[dict[str, Any], bytes]:
    """The output of the job that finishes a draft, and its picture's file."""
    # Not at the top: other commands need no HTTP client.
    from flux_endpoint.worker.connection import HttpConnection, NoAnswer, Patience

    async with HttpConnection(url, f"Bearer {key}") as connection:

        async def ask(method: str, where: str, body: bytes | None = None) -> "Reply":
            media_type = None if body is None else "application/json"
            try:
                reply = await connection.request(method, where, (), body, media_type, Patience(_SILENCE_S))
            except NoAnswer as error:
                raise FluxEndpointError(f"no server answers at {url}: {error}") from None
            if reply.status != _OK:
                raise _ERRORS.get(reply.status, FluxEndpointError)(f"{url} answered {reply.status}: {reply.reason}")
            return reply

        made = (await ask("POST", f"{path}/finish/{quote(job_id, safe='')}", json.dumps(asked).encode())).json()
        while not JobStatus(made["status"]).is_terminal:
            made = (await ask("GET", f"{path}/status-sync/{made['id']}")).json()
        if made["status"] != JobStatus.COMPLETED:
            raise FluxEndpointError(f"job {made['id']} is {made['status']}: {made.get('error', 'no reason given')}")
        output = made["output"]
        # Here, whatever the server calls itself in links.
        key_of_picture = output["image_url"].rpartition("/images/")[2]
        return output, (await ask("GET", f"/images/{key_of_picture}")).body if with_file else b""


def _key(settings: Settings) -> str:
    """The first API key of a server, as it was set or drawn."""
    if settings.api_key is not None:
        return settings.api_key.get_secret_value()
    file = settings.data_dir / "api-key"
    try:
        return file.read_text().strip()
    except OSError as error:
        raise SettingsError(f"there is no API key: give --api-key, or --data-dir ({file}: {error.strerror})") from None
