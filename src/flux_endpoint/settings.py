"""Every setting of the program: its name, default, meaning and limits. The only reader of the environment."""

import re
from collections.abc import Mapping
from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, Any, Final, Literal
from urllib.parse import quote

from pydantic import AfterValidator, Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from flux_endpoint.core.acceleration import Acceleration
from flux_endpoint.core.account import Operation
from flux_endpoint.core.catalog import FLUX_DEV, FLUX_SCHNELL
from flux_endpoint.core.front import Front
from flux_endpoint.core.limits import DEFAULT_RULES, MAX_QUEUED, RateRule, parse_rules
from flux_endpoint.core.outbound import OutboundRules, parse_outbound_allow

PREFIX: Final = "FLUX_ENDPOINT_"
_MAX_PORT: Final = 65_535
# A day: nobody means a longer lease, and a shorter one than a second would expire between two heartbeats.
_MAX_LEASE_S: Final = 86_400
_MAX_RETENTION_S: Final = 315_360_000
_RETENTION: Final = f"a whole number from 0 to {_MAX_RETENTION_S}"

# The model that comes with the package.
EMBEDDED: Final = "demo"

LogLevel = Literal["debug", "info", "warning", "error"]
Memory = Literal["auto", "full", "offload", "low"]


def _setting(default: Any, description: str, allowed: str, *, is_secret: bool = False, **limits: Any) -> Any:
    """One field: what it means, and in words what may stand in it."""
    return Field(
        default=default, description=description, json_schema_extra={"allowed": allowed, "secret": is_secret}, **limits
    )


def _fits_a_header(value: SecretStr) -> SecretStr:
    if not all("!" <= char <= "~" for char in value.get_secret_value()):
        raise ValueError("not printable")
    return value


def _is_outbound_allow(value: str) -> str:
    parse_outbound_allow(value)
    return value


def _are_networks(value: str) -> str:
    for network in _parts_of(value):
        ip_network(network, strict=False)
    return value


def _are_origins(value: str) -> str:
    if value != "*" and not all(re.fullmatch(r"https?://[A-Za-z0-9.\[\]:_-]+", origin) for origin in _parts_of(value)):
        raise ValueError("no origin")
    return value


def _parts_of(value: str) -> list[str]:
    return [part.strip() for part in value.split(",") if part.strip()]


def _are_rate_limits(value: str) -> str:
    parse_rules(value)
    return value


_Secret = Annotated[SecretStr, AfterValidator(_fits_a_header)]
_MODEL_FORMS = (
    "'demo', a hub id, a folder, a file, 'transformer=... vae=... clip=... t5=... kind=...' "
    "(docs/guides/real-weights.md), or 'fake' / 'fake:<seconds per step>'"
)


class _EngineSettings(BaseSettings):
    """What the gateway's own workers and those started by hand have in common."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, env_ignore_empty=True, extra="forbid", frozen=True)

    model: str = _setting(
        "demo",
        "Checkpoint of the Flux Dev endpoint: 'demo' (small, embedded), a hub id such as black-forest-labs/FLUX.1-dev, "
        "a folder of diffusers, ComfyUI or Black Forest Labs, a single file, or components by name.",
        _MODEL_FORMS,
        min_length=1,
    )
    schnell_model: str | None = _setting(
        None,
        "Checkpoint of the Flux Schnell endpoint. When unset, that endpoint is served by the embedded model while "
        "MODEL is 'demo', and not offered otherwise.",
        _MODEL_FORMS,
        min_length=1,
    )
    device: str | None = _setting(
        None,
        "Device the model runs on; when unset, CUDA where there is one, else the CPU.",
        "cpu, cuda, cuda:<number>",
        pattern=r"^(cpu|cuda(:[0-9]+)?)$",
    )
    memory: Memory = _setting(
        "auto",
        "How models are kept in memory: 'full' all on the device, 'offload' without the text encoders, 'low' block by "
        "block; 'auto' takes the first that fits (docs/guides/real-weights.md).",
        "auto, full, offload, low",
    )
    idle_unload_s: float = _setting(
        0,
        "Seconds without a picture after which a worker takes its model out of memory; the next job loads it again. 0 "
        "keeps it.",
        f"a number from 0 to {_MAX_LEASE_S}",
        ge=0,
        le=_MAX_LEASE_S,
    )
    jobs_per_worker: int = _setting(
        4,
        "Pictures that a worker draws at once, step by step in turn: a short one need not wait for a long one to end "
        "(docs/concepts/life-of-a-job.md). 1 for first come, first served.",
        "a whole number from 1 to 64",
        ge=1,
        le=64,
    )
    log_level: LogLevel = _setting("info", "How much is logged.", "debug, info, warning, error")

    @field_validator("log_level", "device", "memory", mode="before")
    @classmethod
    def _lower(cls, value: object) -> object:
        return value.lower() if isinstance(value, str) else value

    @property
    def schnell_source(self) -> str | None:
        """Checkpoint of the schnell endpoint; None when it is not offered. Real weights are never replaced by demo."""
        if self.schnell_model is not None:
            return self.schnell_model
        return self.model if self.model == EMBEDDED or is_fake(self.model) else None

    @property
    def sources(self) -> dict[str, str]:
        """The checkpoint of each FLUX endpoint that is offered, by the endpoint's id."""
        given = {FLUX_DEV.endpoint_id: self.model, FLUX_SCHNELL.endpoint_id: self.schnell_source}
        return {endpoint_id: source for endpoint_id, source in given.items() if source is not None}


class Settings(_EngineSettings):
    """Settings of the gateway."""

    host: str = _setting("127.0.0.1", "Address to listen on; 0.0.0.0 for all.", "a host name or address", min_length=1)
    port: int = _setting(
        8000, "Port to listen on; 0 takes any free one.", f"a whole number from 0 to {_MAX_PORT}", ge=0, le=_MAX_PORT
    )
    acceleration: Acceleration = _setting(
        Acceleration.NONE,
        "Speed level of requests that name none (docs/concepts/speed-levels.md).",
        "none, regular, high",
    )
    data_dir: Path = _setting(
        Path("data"), "Folder for the database, the pictures and the keys. One server at a time.", "a writable folder"
    )
    database_url: str | None = _setting(
        None,
        "Where jobs and charges are kept: sqlite:///FILE or postgresql://USER:PASSWORD@HOST/NAME. Default: a SQLite "
        "file in DATA_DIR.",
        "sqlite:///FILE, postgresql://USER:PASSWORD@HOST/NAME",
        is_secret=True,
        pattern=r"^(sqlite|postgres|postgresql)://",
    )
    database_connections: int = _setting(
        10,
        "Connections to PostgreSQL that this server opens at most; all servers together must fit below its "
        "max_connections (docs/guides/several-gateways.md).",
        "a whole number from 1 to 1000",
        ge=1,
        le=1_000,
    )
    image_store_url: str | None = _setting(
        None,
        "Where pictures are kept: file:///FOLDER or s3://BUCKET/PREFIX. Default: a folder in DATA_DIR.",
        "a URL such as file:///FOLDER or s3://BUCKET/PREFIX",
        is_secret=True,
        pattern=r"^[a-z0-9+.-]+://",
    )
    public_url: str | None = _setting(
        None,
        "How all clients reach this server; links in answers start with it. Default: with what each client asked.",
        "a URL that starts with http:// or https://",
        pattern=r"^https?://[^/]",
    )
    trusted_proxies: Annotated[str, AfterValidator(_are_networks)] = _setting(
        "127.0.0.0/8,::1",
        "Proxies whose X-Forwarded-Proto, X-Forwarded-Host and X-Forwarded-Prefix are believed when links are made.",
        "addresses and networks such as 10.0.0.0/8, joined by commas",
    )
    cors_origins: Annotated[str, AfterValidator(_are_origins)] = _setting(
        "",
        "Origins whose pages may call this server from a browser, joined by commas; * for all. Default: none but its "
        "own.",
        "origins such as https://app.example.org joined by commas, or *",
    )
    dialects: str = _setting(
        "all",
        "Wire formats that are spoken beside Runpod's, which the playground and the workers speak: all, none, or some "
        "(docs/guides/openai.md).",
        "all, none, or some of openai, huggingface, bfl, replicate joined by commas",
        min_length=1,
    )
    api_key: _Secret | None = _setting(
        None,
        "Fixes the first API key. Default: one is drawn and kept in DATA_DIR/api-key, readable by the owner only.",
        "printable characters without spaces, at least 8",
        is_secret=True,
        min_length=8,
    )
    workers: int = _setting(
        1,
        "Worker processes on this machine; 0 when workers join from elsewhere.",
        "a whole number from 0 to 64",
        ge=0,
        le=64,
    )
    worker_token: _Secret | None = _setting(
        None,
        "Fixes the secret with which workers join. Default: one is drawn and kept in DATA_DIR/worker-token.",
        "printable characters without spaces, at least 8",
        is_secret=True,
        min_length=8,
    )
    lease_s: float = _setting(
        30,
        "Seconds after which a job goes back to the queue when its worker has fallen silent.",
        f"a number from 1 to {_MAX_LEASE_S}",
        ge=1,
        le=_MAX_LEASE_S,
    )
    stop_grace_s: float = _setting(
        120,
        "Seconds for which a worker of this machine may go on after its job is over (cancelled, timed out); then it is "
        "ended and another takes its place. A stop is obeyed between two steps: it should be more than the longest "
        "step takes.",
        f"a number from 1 to {_MAX_LEASE_S}",
        ge=1,
        le=_MAX_LEASE_S,
    )
    endpoints_file: Path | None = _setting(
        None,
        "File that declares endpoints of your own beside the FLUX ones (docs/guides/workers.md).",
        "a TOML file",
    )
    image_retention_days: float = _setting(
        7, "Days after which a picture can no longer be fetched.", "a number above 0, at most 3650", gt=0, le=3650
    )

    run_retention_s: int = _setting(
        1800,
        "Seconds after its end for which a job sent to /run can be read; 0 keeps it for ever.",
        _RETENTION,
        ge=0,
        le=_MAX_RETENTION_S,
    )
    runsync_retention_s: int = _setting(
        60,
        "Seconds after its end for which a job sent to /runsync can be read; 0 keeps it for ever.",
        _RETENTION,
        ge=0,
        le=_MAX_RETENTION_S,
    )
    job_history_days: float = _setting(
        30,
        "Days for which status, times and cost of a job that can no longer be read are kept for the operator.",
        "a number above 0, at most 3650",
        gt=0,
        le=3650,
    )

    rate_limits: Annotated[str, AfterValidator(_are_rate_limits)] = _setting(
        "on",
        "How often one API key may ask: 'on' for Runpod's limits, 'off', or changes to some of them, as requests in "
        "10 s and at once: run=5000/800,purge-queue=off.",
        "on, off, or OPERATION=PER_10_S, OPERATION=PER_10_S/AT_ONCE and OPERATION=off joined by commas; operations "
        f"are {', '.join(DEFAULT_RULES)}",
    )

    keep_alive_s: int = _setting(
        75,
        "Seconds for which a connection stays open between two requests. Longer than a load balancer before the "
        "server keeps it (usually 60), or it sends requests into connections that are being closed.",
        "a whole number from 1 to 3600",
        ge=1,
        le=3_600,
    )

    max_queued: int = _setting(
        MAX_QUEUED,
        "Jobs of one endpoint that may wait; more are answered with 429.",
        "a whole number from 1 to 10000000",
        ge=1,
        le=10_000_000,
    )

    @property
    def rate_rules(self) -> Mapping[Operation, RateRule]:
        """`rate_limits` by operation; one that is missing has no limit."""
        return parse_rules(self.rate_limits)

    outbound_allow: Annotated[str, AfterValidator(_is_outbound_allow)] = _setting(
        "",
        "Places beside the public internet that webhooks and buckets of clients may be at: hosts, host:port and "
        "networks, joined by commas. Default: none; private, loopback and link-local addresses are refused.",
        "hosts, host:port and networks such as 10.0.0.0/8, joined by commas",
    )

    @property
    def outbound_rules(self) -> OutboundRules:
        """`outbound_allow`, read."""
        return parse_outbound_allow(self.outbound_allow)

    @property
    def database_file(self) -> Path:
        """The SQLite file in the data folder, used unless `database_url` is set."""
        return self.data_dir.resolve() / "flux-endpoint.db"

    @property
    def resolved_database_url(self) -> str:
        """`database_url`, or the SQLite file in the data folder."""
        return self.database_url or f"sqlite:///{self.database_file}"

    @property
    def resolved_image_store_url(self) -> str:
        """`image_store_url`, or the folder in the data folder."""
        return self.image_store_url or f"file://{quote(str((self.data_dir / 'images').resolve()))}"

    def front(self, port: int) -> Front:
        """How clients see a server that listens at `port`."""
        return Front(
            local_url=f"http://{url_host(self.host)}:{port}",
            public_url=None if self.public_url is None else self.public_url.rstrip("/"),
            trusted_proxies=[ip_network(network, strict=False) for network in _parts_of(self.trusted_proxies)],
            cors_origins=_parts_of(self.cors_origins),
            dialects={"all": None, "none": ()}.get(self.dialects, _parts_of(self.dialects)),
        )


class WorkerSettings(_EngineSettings):
    """Settings of one worker process. `serve` hands them to its own workers in the environment."""

    gateway: str = _setting(
        "http://127.0.0.1:8000",
        "URL of the gateway to take jobs from.",
        "a URL that starts with http:// or https://",
        pattern=r"^https?://[^/]",
    )
    worker_token: _Secret | None = _setting(
        None,
        "The gateway's worker token: the content of its DATA_DIR/worker-token.",
        "printable characters without spaces",
        is_secret=True,
        min_length=1,
    )
    endpoints: str | None = _setting(
        None,
        "Endpoint ids to serve, joined by commas; when unset, all that the models serve.",
        "ids joined by commas",
        min_length=1,
    )
    worker_id: str | None = _setting(
        None,
        "Name of this worker in answers and logs; when unset, one is drawn.",
        "letters, digits, '-', '_' or '.'",
        pattern=r"^[A-Za-z0-9_.-]{1,100}$",
    )
    threads: int | None = _setting(
        None, "CPU threads of the model; when unset, one for each core.", "a whole number from 1 to 1024", ge=1, le=1024
    )


def is_fake(source: str) -> bool:
    """Whether a model source names the engine without a model, for tests and benchmarks."""
    return source == "fake" or source.startswith("fake:")


def is_wildcard(host: str) -> bool:
    """Whether a listening address means all addresses of this machine."""
    return host in ("0.0.0.0", "::", "")


def url_host(host: str) -> str:
    """A listening address as it stands in a URL that this machine can open."""
    if is_wildcard(host):
        return "127.0.0.1"
    return f"[{host}]" if ":" in host else host
