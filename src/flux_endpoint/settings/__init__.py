"""Every setting of the program: its name, default, meaning and limits. The only reader of the environment."""

from pathlib import Path

from flux_endpoint.core.acceleration import Acceleration
from flux_endpoint.settings.engine import EngineSettings
from flux_endpoint.settings.fields import Secret, setting
from flux_endpoint.settings.fleet import FleetSettings
from flux_endpoint.settings.http import HttpSettings
from flux_endpoint.settings.storage import StorageSettings


class Settings(FleetSettings, StorageSettings, HttpSettings, EngineSettings):
    """Settings of the gateway."""

    acceleration: Acceleration = setting(
        Acceleration.NONE,
        "Speed level of requests that name none (docs/concepts/speed-levels.md).",
        "none, regular, high",
    )

    @property
    def kept_loras_dir(self) -> Path:
        """`lora_kept_dir`, or the folder in the data folder."""
        return self.data_loras_dir if self.lora_kept_dir is None else self.lora_kept_dir.resolve()


class WorkerSettings(EngineSettings):
    """Settings of one worker process. `serve` hands them to its own workers in the environment."""

    gateway: str = setting(
        "http://127.0.0.1:8000",
        "URL of the gateway to take jobs from.",
        "a URL that starts with http:// or https://",
        pattern=r"^https?://[^/]",
    )
    worker_token: Secret | None = setting(
        None,
        "The gateway's worker token: the content of its DATA_DIR/worker-token.",
        "printable characters without spaces",
        is_secret=True,
        min_length=1,
    )
    endpoints: str | None = setting(
        None,
        "Endpoint ids to serve, joined by commas; when unset, all that the models serve.",
        "ids joined by commas",
        min_length=1,
    )
    worker_id: str | None = setting(
        None,
        "Name of this worker in answers and logs; when unset, one is drawn.",
        "letters, digits, '-', '_' or '.'",
        pattern=r"^[A-Za-z0-9_.-]{1,100}$",
    )
    threads: int | None = setting(
        None, "CPU threads of the model; when unset, one for each core.", "a whole number from 1 to 1024", ge=1, le=1024
    )
