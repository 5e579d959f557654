"""A database that an earlier version made is brought up to date with all that is in it."""

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import create_engine

from flux_endpoint.api.dialects.runpod.buckets import s3_config_of
from flux_endpoint.core.errors import SettingsError
from flux_endpoint.core.job import JobStatus
from flux_endpoint.stores.connect import open_stores
from flux_endpoint.stores.sql import migrate
from tests.contract.samples import DEV

pytestmark = pytest.mark.anyio


def made_by(revision: str, path: Path) -> sqlite3.Connection:
    """A SQLite file as the version with this migration as its latest would have made it."""
    config = Config()
    config.set_main_option("script_location", str(Path(migrate.__file__).parent / "migrations"))
    engine = create_engine(f"sqlite:///{path}")
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, revision)
    engine.dispose()
    return sqlite3.connect(path)


def add(connection: sqlite3.Connection, table: str, **values: Any) -> None:
    places = ", ".join(f":{name}" for name in values)
    connection.execute(f"INSERT INTO {table} ({', '.join(values)}) VALUES ({places})", values)


def add_job(connection: sqlite3.Connection, job_id: str, output: str | None, **changes: Any) -> None:
    values = {"id": job_id, "endpoint_id": DEV, "status": "COMPLETED", "input": '{"seed":1}', "key_id": "key-1"}
    values |= {"cost_units": 5, "created_ms": 1, "queued_ms": 1, "started_ms": 2, "finished_ms": 3}
    add(connection, "jobs", **(values | {"claim_token": 1, "retries": 0, "output": output} | changes))


OUTPUTS = {
    "object": ('{"a":[1.0,null]}', {"a": [1.0, None]}),
    "text": ('"123"', "123"),
    "whole": ("9223372036854775807", 2**63 - 1),
    "fraction": ("0.30000000000000004", 0.30000000000000004),
    "true": ("true", True),
    "nothing": (None, None),
    # The digits are gone, and with them the result.
    "endless": ("1" * 400, None),
}


async def test_json_that_sqlite_kept_as_numbers_is_kept(tmp_path, clock):
    with closing(made_by("0010", tmp_path / "jobs.db")) as old, old:
        for name, (text, _) in OUTPUTS.items():
            add_job(old, name, text)
            if text is not None:
                add(old, "chunks", job_id="running", output=text)
        add_job(old, "running", None, status="IN_PROGRESS", finished_ms=None, worker_id="w", progress='{"step":1}')
        add(old, "api_keys", id="key-1", name="one", secret_hash="hash", created_ms=1, endpoint_ids='["a"]')
    stores = await open_stores(f"sqlite:///{tmp_path / 'jobs.db'}", clock)
    for name, (_, value) in OUTPUTS.items():
        job = await stores.jobs.get(DEV, name)
        assert (repr(job.output), job.input, job.status) == (repr(value), {"seed": 1}, JobStatus.COMPLETED)
        assert job.dialect == "runpod"
    job, chunks = await stores.jobs.take_chunks(DEV, "running", "key", 0)
    assert job.progress == {"step": 1}
    assert repr(chunks) == repr([value for _, value in OUTPUTS.values() if value is not None])
    (key,) = await stores.accounts.list_keys()
    assert key.limits.endpoint_ids == {"a"}
    await stores.close()


async def test_buckets_of_clients_are_kept(tmp_path, clock):
    sent = {"accessId": "id", "accessSecret": '"endpointUrl":', "bucketName": "b", "endpointUrl": "https://s3.example"}
    with closing(made_by("0021", tmp_path / "jobs.db")) as old, old:
        add_job(old, "mine", None, status="IN_QUEUE", finished_ms=None, s3_config=json.dumps(sent))
        add_job(old, "nobodys", None)
    stores = await open_stores(f"sqlite:///{tmp_path / 'jobs.db'}", clock)
    bucket = (await stores.jobs.get(DEV, "mine")).bucket
    assert s3_config_of(bucket) == sent
    assert (bucket.field, bucket.url_field) == ("s3Config", "s3Config.endpointUrl")
    assert (await stores.jobs.get(DEV, "nobodys")).bucket is None
    await stores.close()


async def test_a_database_of_a_newer_version_is_refused_and_left_as_it_is(sqlite_url, clock):
    stores = await open_stores(sqlite_url, clock)
    await stores.close()
    with closing(sqlite3.connect(sqlite_url.removeprefix("sqlite:///"))) as file:
        with file:
            file.execute("UPDATE alembic_version SET version_num = '9999'")
        before = list(file.iterdump())
        with pytest.raises(SettingsError, match="newer version"):
            await open_stores(sqlite_url, clock)
        assert list(file.iterdump()) == before
