"""What local workers find in their environment."""

import pytest

from flux_endpoint.service.own_workers import OwnWorkers
from flux_endpoint.settings import Settings
from flux_endpoint.wiring.fleet import make_fleet

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("chosen", ["", "/elsewhere"])
async def test_what_workers_compile_is_kept_in_the_data_directory_unless_a_place_is_set(tmp_path, monkeypatch, chosen):
    monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR", raising=False)
    if chosen:
        monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", chosen)
    fleet, _ = make_fleet(Settings(data_dir=tmp_path), "fxw_token", 8000, "node", OwnWorkers(None, None))
    assert fleet._environment["TORCHINDUCTOR_CACHE_DIR"] == (chosen or str(tmp_path.resolve() / "compiled"))
