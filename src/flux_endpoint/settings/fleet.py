"""Settings of workers, their leases and what waits for them."""

from pathlib import Path
from typing import Final, Literal

from pydantic import field_validator

from flux_endpoint.core.limits import MAX_QUEUED
from flux_endpoint.settings.fields import PrefixedSettings, Secret, setting

# A day: nobody means a longer lease, and a shorter one than a second would expire between two heartbeats.
_MAX_LEASE_S: Final = 86_400

FleetKind = Literal["local", "ray", "none"]


class FleetSettings(PrefixedSettings):
    """Who draws, and how long a job waits for them."""

    fleet: FleetKind = setting(
        "local",
        "What starts and stops workers: 'local', this server, as child processes with a GPU each; 'ray', on the "
        "machines of a Ray cluster (docs/guides/ray.md); 'none' when they join by themselves (docs/guides/workers.md).",
        "local, ray, none",
    )
    ray_address: str | None = setting(
        None,
        "Where FLEET=ray finds its cluster: HOST:PORT of the head when this machine is one of the cluster's, "
        "ray://HOST:PORT from elsewhere. Default: Ray's own RAY_ADDRESS, else a cluster on this machine that ends with "
        "this server.",
        "auto, HOST:PORT or ray://HOST:PORT",
        pattern=r"^(auto|(ray://)?[^/\s]+:[0-9]{1,5})$",
    )
    ray_namespace: str = setting(
        "flux-endpoint",
        "Namespace of the workers on a Ray cluster. Servers on one database share it; others on the same cluster need "
        "another one.",
        "letters, digits, '-', '_' or '.'",
        pattern=r"^[A-Za-z0-9_.-]{1,100}$",
    )
    gateway_url: str | None = setting(
        None,
        "How the workers that FLEET=ray places on other machines reach this server, or the load balancer before it. "
        "Default: PUBLIC_URL, else where this server listens.",
        "a URL that starts with http:// or https://",
        pattern=r"^https?://[^/]",
    )
    workers: int = setting(
        1,
        "Workers that this server starts and keeps; 0 when they join by themselves.",
        "a whole number from 0 to 64",
        ge=0,
        le=64,
    )
    worker_token: Secret | None = setting(
        None,
        "Fixes the secret with which workers join. Default: one is drawn and kept in DATA_DIR/worker-token.",
        "printable characters without spaces, at least 8",
        is_secret=True,
        min_length=8,
    )
    lease_s: float = setting(
        30,
        "Seconds after which a job goes back to the queue when its worker has fallen silent.",
        f"a number from 1 to {_MAX_LEASE_S}",
        ge=1,
        le=_MAX_LEASE_S,
    )
    stop_grace_s: float = setting(
        120,
        "Seconds for which a worker of this machine may go on after its job is over (cancelled, timed out); then it is "
        "ended and another takes its place. A stop is obeyed between two steps: it should be more than the longest "
        "step takes.",
        f"a number from 1 to {_MAX_LEASE_S}",
        ge=1,
        le=_MAX_LEASE_S,
    )
    endpoints_file: Path | None = setting(
        None,
        "File that declares endpoints of your own beside the FLUX ones (docs/guides/workers.md).",
        "a TOML file",
    )
    max_queued: int = setting(
        MAX_QUEUED,
        "Jobs of one endpoint that may wait; more are answered with 429.",
        "a whole number from 1 to 10000000",
        ge=1,
        le=10_000_000,
    )

    @field_validator("fleet", mode="before")
    @classmethod
    def _fleet_in_lower_case(cls, value: object) -> object:
        return value.lower() if isinstance(value, str) else value

    @property
    def keeps_workers(self) -> bool:
        """Whether there are workers that this server starts."""
        return self.fleet != "none" and self.workers > 0
