"""Pictures as prompts: taken where Redux is loaded, and refused elsewhere before anything is queued."""

import hashlib
import io
from typing import Any

import pytest
from PIL import Image

from flux_endpoint.core.catalog import CATALOG, FLUX_DEV, FLUX_KONTEXT
from flux_endpoint.core.endpoint import FluxEndpoint
from tests.api.asking import status, taken
from tests.api.conftest import DEV, ENDPOINTS, SCHNELL, Gateway, HandWorker
from tests.api.test_sources import FOX, MASK, URL, data_url, file_of, source

pytestmark = pytest.mark.anyio

NEEDED = "needs FLUX.1 Redux, which is not loaded here (setting REDUX_MODEL)"
OTHER = data_url(file_of(colour="blue"))


@pytest.fixture
def redux(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before `gateway`: beside Flux Dev only."""
    monkeypatch.setitem(ENDPOINTS, FLUX_DEV.endpoint_id, FluxEndpoint(FLUX_DEV, has_redux=True))
    monkeypatch.setitem(ENDPOINTS, FLUX_KONTEXT.endpoint_id, FluxEndpoint(FLUX_KONTEXT))


@pytest.mark.usefixtures("redux")
async def test_a_picture_reaches_the_worker_and_has_no_say_in_size_and_price(
    gateway: Gateway, worker: HandWorker
) -> None:
    reply = await gateway.post(f"{DEV}/estimate", {"input": {"prompt": "a lake", "image_prompt": FOX}})
    assert reply.json()["cost"] == 0.02097152
    job = await taken(gateway, worker, image_prompt=FOX, image_prompt_scale=0.5)
    picture = job["input"]["image_prompt"]
    assert (job["input"]["width"], job["input"]["height"], job["input"]["image_prompt_scale"]) == (1024, 1024, 0.5)
    assert "image" not in job["input"]
    file = await source(worker, job, picture["sha256"])
    assert hashlib.sha256(file.content).hexdigest() == picture["sha256"]
    assert Image.open(io.BytesIO(file.content)).size == (640, 384)


@pytest.mark.usefixtures("redux")
async def test_it_stands_beside_a_picture_to_start_from(gateway: Gateway, worker: HandWorker) -> None:
    gateway.sender.files[URL] = file_of(colour="blue")
    job = await taken(gateway, worker, image=FOX, mask=MASK, strength=0.5, redux_image=URL, image_prompt_strength=0.25)
    assert (job["input"]["width"], job["input"]["height"], job["input"]["image_prompt_scale"]) == (640, 384, 0.25)
    hashes = {job["input"][name]["sha256"] for name in ("image", "mask", "image_prompt")}
    assert len(hashes) == 3
    for sha256 in hashes:
        assert (await source(worker, job, sha256)).status_code == 200


@pytest.mark.parametrize("endpoint", [DEV, SCHNELL])
@pytest.mark.parametrize("operation", ["run", "runsync", "estimate", "batch"])
async def test_without_redux_it_is_refused_before_anything_is_queued_or_fetched(
    gateway: Gateway, endpoint: str, operation: str
) -> None:
    for name in ("image_prompt", "redux_image"):
        sent = {"prompt": "a lake", name: URL}
        body = [{"input": sent}] if operation == "batch" else {"input": sent}
        reply = await gateway.post(f"{endpoint}/{operation}", body)
        assert reply.status_code == 400, reply.text
        assert f"{name} {NEEDED}" in reply.text
    assert gateway.sender.fetched == []
    assert (await gateway.get(f"{endpoint}/health")).json()["jobs"]["inQueue"] == 0


@pytest.mark.usefixtures("redux")
@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"image_prompt": "ftp://x/y"}, "image_prompt must"),
        ({"image_prompt": 5}, "image_prompt must"),
        ({"image_prompt": "data:image/png;base64,AAAA"}, "image_prompt is no jpeg"),
        ({"image_prompt": URL}, "image_prompt cannot be fetched"),
        ({"image_prompt": FOX, "image_prompt_scale": 1.5}, "image_prompt_scale must be between 0 and 1"),
        ({"image_prompt": FOX, "image_prompt_strength": "much"}, "image_prompt_strength must be a number"),
    ],
)
async def test_what_is_no_picture_is_refused_under_the_name_that_was_sent(
    gateway: Gateway, fields: dict[str, Any], problem: str
) -> None:
    reply = await gateway.post(f"{DEV}/run", {"input": {"prompt": "a lake"} | fields})
    assert reply.status_code == 400
    assert problem in reply.json()["error"]
    assert (await gateway.get(f"{DEV}/health")).json()["jobs"]["inQueue"] == 0


@pytest.mark.usefixtures("redux")
async def test_what_has_no_effect_is_told(gateway: Gateway) -> None:
    reply = await gateway.post(f"{DEV}/run", {"input": {"prompt": "a lake", "image_prompt_scale": 0.5}})
    worker = HandWorker(gateway.client)
    job = await worker.take()
    assert job is not None
    assert "image_prompt_scale" not in job["input"]
    await worker.finish(job)
    told = (await status(gateway, reply.json()["id"], DEV))["output"]["warnings"]
    assert told == ["image_prompt_scale has no effect without an image_prompt"]
    accepted = ENDPOINTS[FLUX_KONTEXT.endpoint_id].accept(
        {"prompt": "a lake", "image": FOX, "image_prompt": OTHER, "image_prompt_scale": 0.5}
    )
    assert accepted.warnings == tuple(
        f"{name} has no effect on Flux Kontext Dev" for name in ("image_prompt", "image_prompt_scale")
    )


async def test_the_fields_are_shown_where_they_are_taken() -> None:
    for spec in CATALOG.values():
        for has_redux in (False, True):
            shown = FluxEndpoint(spec, has_redux=has_redux).accepted_schema["properties"]
            is_taken = has_redux and spec.family.value in ("dev", "schnell")
            names = {"image_prompt", "redux_image", "image_prompt_scale", "image_prompt_strength"}
            assert names & shown.keys() == (names if is_taken else set())


@pytest.mark.usefixtures("redux")
async def test_black_forest_labs_name_for_it_takes_bare_base64(gateway: Gateway, worker: HandWorker) -> None:
    body = {"prompt": "a lake", "image_prompt": FOX.partition(",")[2]}
    reply = await gateway.post("/v1/flux-dev", body, headers={"x-key": "fxe_test-key"})
    assert reply.status_code == 200, reply.text
    job = await worker.take()
    assert job is not None
    assert job["input"]["image_prompt"]["width"] == 640
