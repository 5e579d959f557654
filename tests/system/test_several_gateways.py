"""Two gateways on one PostgreSQL, as processes: what one has let in counts at the other."""

from pathlib import Path

from tests.servers import Servers

KEY = "one-key-for-both"


def test_two_gateways_have_one_set_of_rate_limits(servers: Servers, postgres_url: str, tmp_path: Path) -> None:
    for name in ("here", "there"):
        (tmp_path / name).mkdir()
    settings = {
        "database_url": postgres_url,
        "api_key": KEY,
        "workers": 0,
        "image_store_url": f"file://{tmp_path}/images",
    }
    here, there = [servers.start(tmp_path / name, **settings) for name in ("here", "there")]
    assert here.client.post("/purge-queue").status_code == 200
    assert there.client.post("/purge-queue").status_code == 200
    # Two in ten seconds may be, whoever is asked.
    for server in (here, there):
        refused = server.client.post("/purge-queue")
        assert refused.status_code == 429
        assert 1 <= int(refused.headers["Retry-After"]) <= 10
