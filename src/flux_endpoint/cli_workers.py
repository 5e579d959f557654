"""The commands `flux-endpoint workers`: tokens for workers elsewhere, and what the workers are doing."""

import shlex
from enum import StrEnum
from typing import Annotated, Final

import typer
from rich.console import Console
from rich.table import Table

from flux_endpoint.cli_options import day, part, with_settings
from flux_endpoint.core.text import printable
from flux_endpoint.settings import Settings, WorkerSettings

_STORE: Final = ("data_dir", "database_url")

app = typer.Typer(no_args_is_help=True, help="Let workers elsewhere join, and see what all workers do.")


class EnvFormat(StrEnum):
    """How variables are written down."""

    SHELL = "shell"  # for eval
    DOCKER = "docker"  # for --env-file


@app.command("create")
@with_settings(Settings, *_STORE, "endpoints_file")
def create_token(
    name: Annotated[str, typer.Argument(help="For people: which worker or pool it is for.")],
    *,
    settings: Settings,
    endpoint: Annotated[list[str] | None, typer.Option(help="What it is good for; repeatable. All if none.")] = None,
) -> None:
    """Make a worker token. It is shown once; the server keeps only a hash of it.

    Example:
    - `flux-endpoint workers create "lab GPUs" --endpoint my-endpoint --endpoints-file endpoints.toml`
    """
    part("known_endpoints").require_known(settings, endpoint or [])
    token, secret = part("workers").create_token(settings, name, endpoint or None)
    print(f"worker token {token.id} ({token.name}); it is shown now and never again:\n{secret}")


@app.command("list")
@with_settings(Settings, *_STORE)
def list_workers(*, settings: Settings) -> None:
    """List the worker tokens, without their secrets, and the workers seen in the last 24 hours."""
    overview = part("workers").overview(settings)
    tokens = Table("token", "name", "endpoints", "made", "revoked", title="Worker tokens", title_justify="left")
    for token in overview.tokens:
        endpoints = "all" if token.endpoint_ids is None else ", ".join(sorted(token.endpoint_ids))
        revoked = day(token.revoked_ms) if token.revoked_ms else ""
        tokens.add_row(token.id, token.name, endpoints, day(token.created_ms), revoked)
    columns = ("worker", "state", "last seen", "running jobs", "endpoints", "fingerprint")
    seen = Table(*columns, title="Workers", title_justify="left")
    for worker in overview.workers:
        state = f"{worker.state}: {printable(worker.reason)}" if worker.reason else worker.state
        jobs = str(overview.running_jobs.get(worker.id, 0))
        endpoints, kind = ", ".join(sorted(worker.endpoint_ids)), worker.fingerprint.partition(" ")[0]
        seen.add_row(printable(worker.id), state, overview.ago(worker), jobs, endpoints, kind)
    console = Console()
    console.print(tokens, markup=False)
    console.print(seen, markup=False)


@app.command("revoke")
@with_settings(Settings, *_STORE)
def revoke_token(
    token_id: Annotated[str, typer.Argument(metavar="ID", help="As in workers list.")], *, settings: Settings
) -> None:
    """Make a worker token useless for good; its workers' jobs wait again when their leases end.

    Example:
    - `flux-endpoint workers revoke 4f2a9c01be77`
    """
    part("workers").revoke_token(settings, token_id)
    print(f"worker token {token_id} is revoked; running servers notice within 5 seconds")


@app.command("env")
@with_settings(WorkerSettings, "gateway", "worker_token", "worker_id")
def print_environment(
    endpoint_id: Annotated[str, typer.Argument(metavar="ENDPOINT", help="Id of the endpoint to serve.")],
    *,
    settings: WorkerSettings,
    env_format: Annotated[
        EnvFormat, typer.Option("--format", help="shell: for eval. docker: for docker run --env-file.")
    ] = EnvFormat.SHELL,
) -> None:
    """Print the environment with which a handler written for Runpod's SDK serves an endpoint of this gateway.

    Each process needs a worker id of its own: one is drawn unless you name it.

    Example:
    - `eval "$(flux-endpoint workers env my-endpoint --gateway https://pictures.example.org --token fxw_...)"`
    """
    for name, value in part("foreign").environment(settings, endpoint_id).items():
        print(f"{name}={value}" if env_format is EnvFormat.DOCKER else f"export {name}={shlex.quote(value)}")
