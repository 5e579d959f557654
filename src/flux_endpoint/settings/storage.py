"""Settings of where things are kept, and for how long."""

from pathlib import Path
from typing import Final, Literal
from urllib.parse import quote

from flux_endpoint.settings.fields import PrefixedSettings, setting

_MAX_RETENTION_S: Final = 315_360_000
_RETENTION: Final = f"a whole number from 0 to {_MAX_RETENTION_S}"


class StorageSettings(PrefixedSettings):
    """Database, pictures and what is kept of a job."""

    data_dir: Path = setting(
        Path("data"), "Folder for the database, the pictures and the keys. One server at a time.", "a writable folder"
    )
    database_url: str | None = setting(
        None,
        "Where jobs and charges are kept: sqlite:///FILE or postgresql://USER:PASSWORD@HOST/NAME. Default: a SQLite "
        "file in DATA_DIR.",
        "sqlite:///FILE, postgresql://USER:PASSWORD@HOST/NAME",
        is_secret=True,
        pattern=r"^(sqlite|postgres|postgresql)://",
    )
    database_connections: int = setting(
        10,
        "Connections to PostgreSQL that this server opens at most; all servers together must fit below its "
        "max_connections (docs/guides/several-gateways.md).",
        "a whole number from 1 to 1000",
        ge=1,
        le=1_000,
    )
    image_store_url: str | None = setting(
        None,
        "Where pictures are kept: file:///FOLDER, s3://BUCKET/PREFIX, gs://BUCKET/PREFIX or az://CONTAINER/PREFIX. "
        "Default: a folder in DATA_DIR.",
        "a URL such as file:///FOLDER, s3://BUCKET/PREFIX, gs://BUCKET/PREFIX or az://CONTAINER/PREFIX",
        is_secret=True,
        pattern=r"^[a-z0-9+.-]+://",
    )
    image_links: Literal["proxy", "presigned"] = setting(
        "proxy",
        "Who sends the bytes of a picture: this server (proxy), or the bucket of IMAGE_STORE_URL, to which a client "
        "without a key is redirected with a signed URL (presigned).",
        "proxy, presigned",
    )
    image_retention_days: float = setting(
        7, "Days after which a picture can no longer be fetched.", "a number above 0, at most 3650", gt=0, le=3650
    )
    run_retention_s: int = setting(
        1800,
        "Seconds after its end for which a job sent to /run can be read; 0 keeps it for ever.",
        _RETENTION,
        ge=0,
        le=_MAX_RETENTION_S,
    )
    runsync_retention_s: int = setting(
        60,
        "Seconds after its end for which a job sent to /runsync can be read; 0 keeps it for ever.",
        _RETENTION,
        ge=0,
        le=_MAX_RETENTION_S,
    )
    job_history_days: float = setting(
        30,
        "Days for which status, times and cost of a job that can no longer be read are kept for the operator.",
        "a number above 0, at most 3650",
        gt=0,
        le=3650,
    )

    @property
    def data_loras_dir(self) -> Path:
        """The folder in the data folder for LoRAs that were fetched, used unless `lora_kept_dir` is set."""
        return self.data_dir.resolve() / "loras"

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
