"""`flux-endpoint workers`: tokens for workers elsewhere, what the workers do, and how third-party ones join."""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Any, Final
from urllib.parse import quote

import typer
from rich.console import Console
from rich.table import Table

from flux_endpoint.commands.admin import Admin, ask, require_endpoints
from flux_endpoint.commands.listing import AsJson, print_json, time_of
from flux_endpoint.commands.options import day, with_settings
from flux_endpoint.core.errors import NotFound, SettingsError
from flux_endpoint.core.text import printable
from flux_endpoint.core.worker import WorkerRecord, WorkerState, WorkerToken
from flux_endpoint.service.worker_speed import throttled
from flux_endpoint.settings import Settings, WorkerSettings

_STORE: Final = ("data_dir", "database_url")
_SHOWN_MS: Final = 86_400_000
# Twelve times as long as a record is old at most.
_HERE_MS: Final = 60_000
# In the URLs of Runpod's worker SDK (contract section 5.1). It appends `&...`, so they must have a query already.
_QUERY: Final = "?gpu=unknown"
_ID: Final = "$ID"
_WORKER: Final = "$RUNPOD_POD_ID"

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
    require_endpoints(settings, endpoint or [])
    token, secret = ask(settings, lambda admin: admin.worker_tokens.create(name, endpoint or None))
    print(f"worker token {token.id} ({token.name}); it is shown now and never again:\n{secret}")


@app.command("list")
@with_settings(Settings, *_STORE)
def list_workers(*, settings: Settings, as_json: AsJson = False) -> None:
    """List the worker tokens, without their secrets, and the workers of the last 24 hours, but for those that left.

    A worker that is throttled is much slower than others of its kind, and gets jobs last.
    """
    overview = ask(settings, _overview)
    if as_json:
        print_json(overview.content())
        return
    tokens = _table("Worker tokens", "token", "name", "endpoints", "made", "revoked")
    for token in overview.tokens:
        endpoints = "all" if token.endpoint_ids is None else ", ".join(sorted(token.endpoint_ids))
        revoked = day(token.revoked_ms) if token.revoked_ms else ""
        tokens.add_row(token.id, token.name, endpoints, day(token.created_ms), revoked)
    seen = _table("Workers", "worker", "state", "last seen", "running jobs", "endpoints", "fingerprint")
    for worker in overview.workers:
        state, reason = overview.state(worker)
        jobs = str(overview.running_jobs.get(worker.id, 0))
        endpoints, kind = ", ".join(sorted(worker.endpoint_ids)), worker.fingerprint.partition(" ")[0]
        shown = f"{state}: {printable(reason)}" if reason else state
        seen.add_row(printable(worker.id), shown, overview.ago(worker), jobs, endpoints, kind)
    console = Console()
    console.print(tokens, markup=False)
    console.print(seen, markup=False)


def _table(title: str, *columns: str) -> Table:
    """One that leaves nothing out where the screen is narrow."""
    table = Table(title=title, title_justify="left")
    for name in columns:
        table.add_column(name, overflow="fold", no_wrap=name in ("token", "last seen", "fingerprint"))
    return table


@app.command("revoke")
@with_settings(Settings, *_STORE)
def revoke_token(
    token_id: Annotated[str, typer.Argument(metavar="ID", help="As in workers list.")], *, settings: Settings
) -> None:
    """Make a worker token useless for good; its workers' jobs wait again when their leases end.

    Example:
    - `flux-endpoint workers revoke 4f2a9c01be77`
    """
    if not ask(settings, lambda admin: admin.worker_tokens.revoke(token_id)):
        raise NotFound(f"there is no worker token with the id '{token_id}'; see flux-endpoint workers list")
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
    for name, value in _environment(settings, endpoint_id).items():
        print(f"{name}={value}" if env_format is EnvFormat.DOCKER else f"export {name}={shlex.quote(value)}")


@dataclass(frozen=True, slots=True)
class _Overview:
    tokens: Sequence[WorkerToken]
    workers: Sequence[WorkerRecord]
    running_jobs: Mapping[str, int]
    now_ms: int

    def state(self, worker: WorkerRecord) -> tuple[str, str]:
        """A worker's state in a word, and why it is in it, which may be empty."""
        # Who has left tells nothing of what is usual now.
        here = [one for one in self.workers if self.now_ms - one.seen_ms <= _HERE_MS]
        slow = throttled(here).get(worker.id)
        if slow is not None and worker.state is WorkerState.READY:
            return "throttled", slow
        return worker.state.value, worker.reason

    def content(self) -> dict[str, Any]:
        """All of it, for programs."""
        tokens = [
            {
                "id": token.id,
                "name": token.name,
                "endpoints": token.endpoint_ids,
                "made": time_of(token.created_ms),
                "revoked": time_of(token.revoked_ms),
            }
            for token in self.tokens
        ]
        return {"tokens": tokens, "workers": [self._worker_object(worker) for worker in self.workers]}

    def _worker_object(self, worker: WorkerRecord) -> dict[str, Any]:
        state, reason = self.state(worker)
        return {
            "id": worker.id,
            "state": state,
            "reason": reason,
            "last_seen": time_of(worker.seen_ms),
            "running_jobs": self.running_jobs.get(worker.id, 0),
            "endpoints": worker.endpoint_ids,
            "fingerprint": worker.fingerprint,
        }

    def ago(self, worker: WorkerRecord) -> str:
        """When a worker was last heard of, in words."""
        seconds = max(0, self.now_ms - worker.seen_ms) // 1_000
        for unit, length in (("h", 3_600), ("min", 60)):
            if seconds >= 2 * length:
                return f"{seconds // length} {unit} ago"
        return f"{seconds} s ago"


async def _overview(admin: Admin) -> _Overview:
    now_ms = admin.stores.clock.now_ms()
    return _Overview(
        await admin.stores.workers.list_worker_tokens(),
        await admin.stores.workers.list_workers(now_ms - _SHOWN_MS),
        await admin.stores.workers.count_running_jobs(),
        now_ms,
    )


def _environment(settings: WorkerSettings, endpoint_id: str) -> dict[str, str]:
    from flux_endpoint.worker.process import new_worker_id

    if settings.worker_token is None:
        raise SettingsError("setting FLUX_ENDPOINT_WORKER_TOKEN (option --token) is missing; see workers create")
    url = f"{settings.gateway.rstrip('/')}/v2/{quote(endpoint_id, safe=',')}"
    return {
        "RUNPOD_WEBHOOK_GET_JOB": f"{url}/job-take/{_ID}{_QUERY}",
        "RUNPOD_WEBHOOK_POST_OUTPUT": f"{url}/job-done/{_WORKER}/{_ID}{_QUERY}",
        "RUNPOD_WEBHOOK_POST_STREAM": f"{url}/job-stream/{_WORKER}/{_ID}{_QUERY}",
        "RUNPOD_WEBHOOK_PING": f"{url}/ping/{_WORKER}{_QUERY}",
        "RUNPOD_AI_API_KEY": settings.worker_token.get_secret_value(),
        # Without it the SDK sends no pings, and its jobs would be taken back at the end of the first lease.
        "RUNPOD_POD_ID": settings.worker_id or new_worker_id(),
        "RUNPOD_ENDPOINT_ID": endpoint_id,
        # The SDK's checks at the start want a GPU and a connection to a public address.
        "RUNPOD_SKIP_AUTO_SYSTEM_CHECKS": "true",
        "RUNPOD_SKIP_GPU_CHECK": "true",
    }
