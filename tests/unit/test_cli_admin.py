"""The commands that look after a server, without one: keys, usage, webhooks, the database."""

import asyncio
import json
import sqlite3
from contextlib import closing

import pytest

from flux_endpoint.core.clock import ManualClock, SystemClock
from flux_endpoint.core.endpoint import FLUX_ENDPOINTS
from flux_endpoint.core.webhook import FAILURES_TO_PAUSE, Attempt, DeliveryState
from flux_endpoint.stores.connect import open_stores
from tests.contract.samples import DEV, sample_job
from tests.unit.conftest import assert_one_line

pytestmark = pytest.mark.usefixtures("empty_place")


async def make_database(url):
    await (await open_stores(url, SystemClock())).close()


def test_keys_are_made_listed_and_revoked(run, tmp_path):
    url = f"sqlite:///{tmp_path}/keys.db"

    asyncio.run(make_database(url))
    code, out, _ = run("keys", "create", "web shop", "--database-url", url)
    secret = out.splitlines()[-1]
    assert code == 0
    assert secret.startswith("fxe_")
    key_id = out.split()[1]
    _, out, _ = run("keys", "list", "--database-url", url)
    assert key_id in out
    assert "web shop" in out
    assert secret not in out
    assert run("keys", "revoke", key_id, "--database-url", url) == (0, f"key {key_id} is revoked\n", "")
    _, out, _ = run("keys", "list", "--database-url", url)
    assert "revoked 20" in out
    error = assert_one_line(*run("keys", "revoke", "none", "--database-url", url), expected_code=78)
    assert "no API key with the id 'none'" in error


def test_limits_of_keys_are_set_shown_and_lifted(run, tmp_path, monkeypatch):
    url = f"sqlite:///{tmp_path}/keys.db"
    asyncio.run(make_database(url))
    file = tmp_path / "endpoints.toml"
    file.write_text('[[endpoint]]\nid = "one"\n[[endpoint]]\nid = "two"\n')
    monkeypatch.setenv("FLUX_ENDPOINT_ENDPOINTS_FILE", str(file))
    limits = ["--read-only", "--endpoint", "one", "--endpoint", "two", "--usd-per-month", "12.5"]
    code, out, err = run("keys", "create", "shop", *limits, "--requests-per-minute", "7", "--database-url", url)
    assert code == 0, err
    key_id = out.split()[1]

    def row():
        lines = run("keys", "list", "--database-url", url)[1].splitlines()
        cells = [[cell.strip() for cell in line.split("│")[1:-1]] for line in lines if "│" in line]
        # An endpoint more is a line more.
        return [" ".join(filter(None, column)) for column in zip(*cells, strict=True)][2:5:2]

    monkeypatch.setenv("COLUMNS", "80")
    narrow = run("keys", "list", "--database-url", url)[1]
    assert key_id in narrow and "0.00 of 12.50" in narrow and "7 jobs a minute" in narrow
    monkeypatch.setenv("COLUMNS", "200")

    def update(*options):
        assert run("keys", "update", key_id, *options, "--database-url", url)[0] == 0

    assert row() == ["0.00 of 12.50", "read only 7 jobs a minute only one, two"]
    update("--usd-per-month", "none")
    assert row() == ["0.00", "read only 7 jobs a minute only one, two"]
    [listed] = json.loads(run("keys", "list", "--json", "--database-url", url)[1])
    assert listed.pop("made").endswith("Z")
    assert listed == {
        "id": key_id,
        "name": "shop",
        "read_only": True,
        "endpoints": ["one", "two"],
        "usd_per_month": None,
        "usd_this_month": 0,
        "requests_per_minute": 7,
        "revoked": None,
    }
    update("--full-access", "--requests-per-minute", "none", "--endpoint", "two")
    assert row() == ["0.00", "only two"]
    update("--endpoint", "none", "--usd-per-month", "3", "--read-only")
    assert row() == ["0.00 of 3.00", "read only"]
    for options in (
        [],
        ["--endpoint", "nonsense"],
        ["--usd-per-month", "many"],
        ["--usd-per-month", "-1"],
        ["--requests-per-minute", "0"],
    ):
        assert_one_line(*run("keys", "update", key_id, *options, "--database-url", url), expected_code=2)
    assert_one_line(*run("keys", "update", "none", "--read-only", "--database-url", url), expected_code=78)
    assert row() == ["0.00 of 3.00", "read only"]


@pytest.mark.parametrize("command", ["keys", "workers"])
def test_an_endpoint_that_does_not_exist_is_refused_with_those_that_do(run, tmp_path, command):
    url = f"sqlite:///{tmp_path}/keys.db"
    asyncio.run(make_database(url))
    create = [command, "create", "x", "--database-url", url, "--endpoint"]
    both = ", ".join(FLUX_ENDPOINTS)
    error = assert_one_line(*run(*create, "nonsense"), expected_code=2)
    assert f"--endpoint is 'nonsense'; there are {both}; name those of your own with --endpoints-file" in error
    file = tmp_path / "endpoints.toml"
    file.write_text('[[endpoint]]\nid = "shout"\n')
    assert run(*create, "shout", "--endpoints-file", str(file))[0] == 0
    error = assert_one_line(*run(*create, "shou", "--endpoints-file", str(file)), expected_code=2)
    assert f"--endpoint is 'shou'; there are {both}, shout\n" in error
    assert "nonsense" not in run(command, "list", "--database-url", url)[1]


def test_usage_is_shown_by_bucket_key_and_endpoint(run, tmp_path):
    url = f"sqlite:///{tmp_path}/keys.db"
    asyncio.run(make_database(url))
    key_id = run("keys", "create", "web shop", "--database-url", url)[1].split()[1]
    hour_ms = 1_700_000_000_000 // 3_600_000 * 3_600_000
    with closing(sqlite3.connect(tmp_path / "keys.db")) as connection, connection:
        for key, hours, endpoint, jobs, units in (
            (key_id, 0, "dev", 2, 419_430_400_000),
            (key_id, 1, "dev", 1, 4),
            ("gone", 24, "schnell", 1, 251_658),
        ):
            connection.execute(
                "INSERT INTO charges_by_hour VALUES (?, ?, ?, ?, ?)",
                (hour_ms + hours * 3_600_000, key, endpoint, jobs, units),
            )
    options = ("--since", "2023-11-01", "--until", "2023-12-01", "--database-url", url)
    code, out, err = run("usage", *options)
    assert code == 0, err
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in out.splitlines() if "│" in line]
    assert rows == [
        ["2023-11-14", "web shop", "dev", "3", "4,194.30400004"],
        ["2023-11-15", "gone", "schnell", "1", "0.00251658"],
        ["total", "", "", "4", "4,194.30651662"],
    ]
    code, out, _ = run("usage", *options, "--bucket", "hour", "--key", key_id, "--csv")
    assert out.splitlines() == [
        "start,end,key_id,key_name,endpoint_id,jobs,usd",
        f"2023-11-14T22:00:00Z,2023-11-14T23:00:00Z,{key_id},web shop,dev,2,4194.30400000",
        f"2023-11-14T23:00:00Z,2023-11-15T00:00:00Z,{key_id},web shop,dev,1,0.00000004",
    ]
    records = json.loads(run("usage", *options, "--json")[1])
    assert sum(record["jobs"] for record in records) == 4
    assert records[0].keys() == {"start", "end", "key_id", "key_name", "endpoint_id", "jobs", "usd"}
    assert_one_line(*run("usage", *options, "--json", "--csv"), expected_code=2)
    assert run("usage", "--database-url", url)[0] == 0
    error = assert_one_line(*run("usage", "--since", "soon", "--database-url", url), expected_code=2)
    assert "--since is 'soon'" in error
    wrong_order = ("--since", "2023-11-02", "--until", "2023-11-01")
    assert_one_line(*run("usage", *wrong_order, "--database-url", url), expected_code=2)
    assert_one_line(*run("usage", "--key", "nobody", "--database-url", url), expected_code=78)


def test_webhooks_are_listed_and_sent_again(run, tmp_path, monkeypatch):
    url = f"sqlite:///{tmp_path}/webhooks.db"
    monkeypatch.setenv("FLUX_ENDPOINT_DATABASE_URL", url)
    clock = ManualClock()

    async def fill():
        stores = await open_stores(url, clock)
        for state, error in ((DeliveryState.DELIVERED, None), (DeliveryState.FAILED, "HTTP 500; exactly 200 counts")):
            job = sample_job(clock, webhook="https://user:geheim@hooks.example/flux?token=geheim")
            await stores.jobs.enqueue(job)
            await stores.jobs.cancel(DEV, job.id)
            (delivery,) = await stores.webhooks.claim_due("gateway-1", 1, 1, 20_000)
            await stores.webhooks.report(delivery, Attempt(state, code=500 if error else 200, error=error))
        await stores.close()

    asyncio.run(fill())
    code, out, err = run("webhooks", "list")
    assert (code, err) == (0, "")
    assert [word for word in out.replace(",", "").split() if word in ("failed", "delivered")] == ["failed", "delivered"]
    assert "geheim" not in out
    monkeypatch.setenv("COLUMNS", "80")
    _, out, _ = run("webhooks", "list")
    # A terminal of 80 columns has room for what is said, and for what replay wants in one piece.
    for words in ("https://hooks.exampl", "HTTP 500; exactly", "CANCELLED", "failed, 1 attempt"):
        assert out.count(words) >= 1, words
    assert max(map(len, out.splitlines())) <= 80
    _, out, _ = run("webhooks", "list", "--failed")
    assert out.count("msg_") == 1
    _, out, _ = run("webhooks", "list", "--job", "none")
    assert "msg_" not in out
    listed = json.loads(run("webhooks", "list", "--json")[1])
    assert listed["paused"] == []
    assert [(record["state"], record["code"]) for record in listed["webhooks"]] == [("failed", 500), ("delivered", 200)]
    assert "geheim" not in str(listed)
    assert run("webhooks", "replay", "--failed") == (0, "1 webhooks will be sent again\n", "")
    assert run("webhooks", "replay", "--failed") == (0, "0 webhooks will be sent again\n", "")
    error = assert_one_line(*run("webhooks", "replay", "msg_none"), expected_code=78)
    assert "no webhook delivery with the id 'msg_none'" in error


def test_paused_receivers_come_before_the_list_of_webhooks(run, tmp_path, monkeypatch):
    url = f"sqlite:///{tmp_path}/webhooks.db"
    monkeypatch.setenv("FLUX_ENDPOINT_DATABASE_URL", url)
    monkeypatch.setenv("COLUMNS", "200")
    clock = ManualClock()

    async def fill():
        stores = await open_stores(url, clock)
        for _ in range(FAILURES_TO_PAUSE):
            job = sample_job(clock, webhook="https://user:geheim@hooks.example/flux?token=geheim")
            await stores.jobs.enqueue(job)
            await stores.jobs.cancel(DEV, job.id)
        for delivery in await stores.webhooks.claim_due("gateway-1", 64, 64, 20_000):
            await stores.webhooks.report(delivery, Attempt(DeliveryState.WAITING, clock.now_ms(), 503, "HTTP 503"))
        await stores.close()

    asyncio.run(fill())
    code, out, err = run("webhooks", "list")
    assert (code, err) == (0, "")
    (row,) = [line for line in out.splitlines() if "https://hooks.example:443" in line]
    cells = [cell.strip() for cell in row.split("│")[1:-1]]
    assert (cells[:3], cells[5:]) == (["https://hooks.example:443", "key-1", "5"], ["5", "HTTP 503"])
    [paused] = json.loads(run("webhooks", "list", "--json")[1])["paused"]
    assert (paused["receiver"], paused["failures"], paused["error"]) == ("https://hooks.example:443", 5, "HTTP 503")
    assert "geheim" not in out


def test_the_secret_of_webhooks_is_shown_and_rotated(run, tmp_path, monkeypatch):
    url = f"sqlite:///{tmp_path}/webhooks.db"
    monkeypatch.setenv("FLUX_ENDPOINT_DATABASE_URL", url)
    asyncio.run(make_database(url))
    key_id = run("keys", "create", "shop")[1].split()[1]
    code, secret, err = run("webhooks", "secret", key_id)
    assert (code, err) == (0, "")
    assert secret.startswith("whsec_")
    assert run("webhooks", "secret", key_id)[1] == secret
    _, rotated, note = run("webhooks", "secret", key_id, "--rotate")
    assert rotated != secret
    assert "the secret before signs too, until" in note
    assert run("webhooks", "secret", key_id)[1] == rotated
    assert_one_line(*run("webhooks", "secret", "none"), expected_code=78)


def test_db_upgrade_makes_the_tables_and_refuses_those_of_a_newer_version(run, tmp_path):
    url = f"sqlite:///{tmp_path}/new.db"
    for _ in range(2):
        assert run("db", "upgrade", "--database-url", url) == (0, "the database is up to date\n", "")
    with closing(sqlite3.connect(tmp_path / "new.db")) as connection:
        assert connection.execute("SELECT count(*) FROM jobs").fetchone() == (0,)
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
        connection.commit()
    error = assert_one_line(*run("db", "upgrade", "--database-url", url), expected_code=2)
    assert "newer version" in error
