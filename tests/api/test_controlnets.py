"""Maps to draw along with a ControlNet: they reach the worker, and are refused elsewhere before anything is queued."""

import hashlib
from typing import Any

import pytest

from flux_endpoint.core.catalog import FLUX_DEV
from flux_endpoint.core.controlnet import ControlNetKind
from flux_endpoint.core.endpoint import FluxEndpoint
from tests.api.conftest import DEV, ENDPOINTS, Gateway, HandWorker
from tests.api.test_sources import FOX, URL, file_of, source

pytestmark = pytest.mark.anyio

AT_FAL = "/fal/queue/fal-ai/flux/dev"


@pytest.fixture
def union(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before `gateway`."""
    monkeypatch.setitem(ENDPOINTS, FLUX_DEV.endpoint_id, FluxEndpoint(FLUX_DEV, controlnet=ControlNetKind.UNION))


async def queued(gateway: Gateway) -> int:
    return int((await gateway.get(f"{DEV}/health")).json()["jobs"]["inQueue"])


@pytest.mark.usefixtures("union")
async def test_a_map_reaches_the_worker_with_what_is_said_of_it(gateway: Gateway, worker: HandWorker) -> None:
    gateway.sender.files[URL] = file_of()
    steering = {"control_mode": 2, "control_strength": 0.5, "end_percentage": 0.75}
    for path, body in (
        (f"{DEV}/run", {"input": {"prompt": "a lake", "control_image": FOX} | steering}),
        (AT_FAL, {"prompt": "a lake", "control_image_url": URL} | steering),
    ):
        reply = await gateway.post(path, body)
        assert reply.status_code == 200, reply.text
        job = await worker.take()
        assert job is not None
        made = job["input"]
        assert [made[f"control_{name}"] for name in ("mode", "scale", "start", "end")] == ["depth", 0.5, 0.0, 0.75]
        # The result has the shape of the map.
        assert (made["width"], made["height"]) == (640, 384)
        file = await source(worker, job, made["control_image"]["sha256"])
        assert hashlib.sha256(file.content).hexdigest() == made["control_image"]["sha256"]


@pytest.mark.usefixtures("union")
@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"control_image": URL}, "control_mode is required by the ControlNet that is loaded here"),
        (
            {"control_image": FOX, "controlnet_conditioning_scale": 3, "control_mode": "pose"},
            "scale must be between 0 and",
        ),
        ({"control_image": "data:image/png;base64,AAAA", "control_mode": "pose"}, "control_image is no jpeg"),
    ],
)
async def test_what_is_wrong_is_refused_before_anything_is_queued(
    gateway: Gateway, fields: dict[str, Any], problem: str
) -> None:
    reply = await gateway.post(f"{DEV}/run", {"input": {"prompt": "a lake"} | fields})
    assert reply.status_code == 400
    assert problem in reply.json()["error"]
    assert gateway.sender.fetched == []
    assert await queued(gateway) == 0


@pytest.mark.parametrize("operation", ["run", "estimate"])
async def test_without_a_controlnet_a_map_is_neither_fetched_nor_queued(gateway: Gateway, operation: str) -> None:
    for name in ("control_image", "preprocessed_image"):
        reply = await gateway.post(f"{DEV}/{operation}", {"input": {"prompt": "a lake", name: URL}})
        assert reply.status_code == 400
        assert f"{name} needs a ControlNet, which is not loaded here (setting CONTROLNET_MODEL)" in reply.text
    assert gateway.sender.fetched == []
    assert await queued(gateway) == 0
