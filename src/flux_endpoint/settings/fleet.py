"""Settings of workers, their leases and what waits for them."""

from pathlib import Path
from typing import Final, Literal

from pydantic import ValidationInfo, field_validator

from flux_endpoint.core.limits import MAX_QUEUED
from flux_endpoint.core.scaling import ScaleBy, ScalingRules
from flux_endpoint.settings.fields import PrefixedSettings, Secret, contradiction, setting

# A day: nobody means a longer lease, and a shorter one than a second would expire between two heartbeats.
_MAX_LEASE_S: Final = 86_400
_MAX_IDLE_S: Final = 86_400
_MAX_WORKERS: Final = 1_000

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
    workers: int | None = setting(
        None,
        "Workers that this server starts and keeps; 0 when they join by themselves. Default: one for each GPU of this "
        "machine, one on a machine without.",
        f"a whole number from 0 to {_MAX_WORKERS}",
        ge=0,
        le=_MAX_WORKERS,
    )
    max_workers: int | None = setting(
        None,
        "Workers that this server never exceeds; they come and go with the jobs when this is more than MIN_WORKERS "
        "(docs/guides/workers.md). Default: WORKERS.",
        f"a whole number from 0 to {_MAX_WORKERS}, not less than WORKERS where both are set",
        ge=0,
        le=_MAX_WORKERS,
    )
    min_workers: int | None = setting(
        None,
        "Workers that are kept also without jobs; with 0, the first job waits for one to start. Default: WORKERS where "
        "that is set, and else 1, but MAX_WORKERS at most.",
        f"a whole number from 0 to {_MAX_WORKERS}, not more than MAX_WORKERS or WORKERS where they are set",
        ge=0,
        le=_MAX_WORKERS,
    )
    idle_timeout_s: float = setting(
        60,
        "Seconds for which fewer workers must have been enough before some leave.",
        f"a number from 1 to {_MAX_IDLE_S}",
        ge=1,
        le=_MAX_IDLE_S,
    )
    scale_by: ScaleBy = setting(
        ScaleBy.QUEUE_DELAY,
        "What starts another worker: 'queue-delay', a job that has waited for longer than SCALE_THRESHOLD seconds; "
        "'request-count', more unfinished jobs than SCALE_THRESHOLD for each worker.",
        "queue-delay, request-count",
    )
    scale_threshold: float = setting(
        4, "See SCALE_BY: seconds, or jobs for each worker.", "a number from 1 to 3600", ge=1, le=3_600
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
        "Seconds after which a job returns to the queue when its worker has fallen silent.",
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

    @field_validator("fleet", "scale_by", mode="before")
    @classmethod
    def _in_lower_case(cls, value: object) -> object:
        return value.lower() if isinstance(value, str) else value

    @field_validator("workers", "max_workers", "min_workers")
    @classmethod
    def _agrees(cls, value: int | None, info: ValidationInfo) -> int | None:
        # In the order of definition: those that come after this one are not known yet.
        if value and info.data.get("fleet") == "none":
            raise contradiction("0, because FLEET is none")
        if value is None or info.field_name == "workers":
            return value
        for name in ("workers", "max_workers"):
            other = info.data.get(name)
            is_too_few = info.field_name == "max_workers" and other is not None and value < other
            is_too_many = info.field_name == "min_workers" and other is not None and value > other
            if is_too_few or is_too_many:
                raise contradiction(f"at {'least' if is_too_few else 'most'} {other}, which is {name.upper()}")
        return value

    @property
    def keeps_workers(self) -> bool:
        """Whether there are, or may come to be, workers that this server starts."""
        return self.scaling(1).max_workers > 0

    def scaling(self, devices: int) -> ScalingRules:
        """How many workers this server keeps.

        Args:
            devices: GPUs of this machine.
        """
        if self.fleet == "none":
            return ScalingRules(0, 0)
        least, most = self.min_workers, self.max_workers
        if least is None and most is None:
            least = most = max(1, devices) if self.workers is None else self.workers
        elif most is None:
            assert least is not None
            most = max(least, devices, 1) if self.workers is None else self.workers
        elif least is None:
            least = min(1, most) if self.workers is None else self.workers
        return ScalingRules(least, most, self.idle_timeout_s, self.scale_by, self.scale_threshold)
