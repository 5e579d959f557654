"""A format that nobody has heard of: one row and one encoder, and the whole house speaks it."""

import json
from typing import Any, BinaryIO

import pytest

from flux_endpoint.core.catalog import FLUX_DEV
from flux_endpoint.core.generation import GenerationRequest
from flux_endpoint.core.image_formats import IMAGE_FORMATS, ImageFormat, format_ending_in
from flux_endpoint.engine.encode import ENCODERS, Encoder, Parameters, Pixels
from flux_endpoint.engine.fake import FakeEngine
from tests.api.conftest import DEV, PUBLIC_URL, Gateway, HandWorker
from tests.api.test_client_buckets import BUCKET
from tests.engine.conftest import draw

pytestmark = pytest.mark.anyio
MURAL = ImageFormat("mural", "mrl", "image/x-mural", ((2, b"MURAL"),), aliases=("fresco",))


def save_mural(pixels: Pixels, parameters: Parameters, file: BinaryIO) -> None:
    height, width, _ = pixels.shape
    file.write(b"A MURAL " + json.dumps([width, height, parameters]).encode())


@pytest.fixture(autouse=True)
def a_new_format(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(IMAGE_FORMATS, MURAL.name, MURAL)
    monkeypatch.setitem(ENCODERS, MURAL.name, Encoder(save_mural, lambda: "brush 1"))


async def drawn(gateway: Gateway, worker: HandWorker, **envelope: Any) -> tuple[str, bytes]:
    """The id of a job, and the file that an engine made of it and a worker handed in."""
    body = {"input": {"prompt": "a lake", "width": 256, "seed": 7, "image_format": MURAL.name}}
    reply = await gateway.post(f"{DEV}/run", body | envelope)
    assert reply.status_code == 200, reply.text
    job = await worker.take()
    assert job is not None
    image = draw(FakeEngine(FLUX_DEV), GenerationRequest.from_input(job["input"]))
    assert image.image_format is MURAL
    assert (await worker.deliver(job, image.data)).status_code == 200
    return reply.json()["id"], image.data


async def test_it_is_offered_and_described(gateway: Gateway) -> None:
    known = ["jpeg", "png", "webp", "mural"]
    for endpoint in (await gateway.get("/v2/endpoints")).json()[:2]:
        assert endpoint["input"]["properties"]["image_format"]["enum"] == known
    document = (await gateway.get("/openapi.json")).json()
    body = document["paths"][f"{DEV}/run"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    assert body["properties"]["input"]["properties"]["image_format"]["enum"] == [*known, None]
    refused = await gateway.post(f"{DEV}/run", {"input": {"prompt": "a", "image_format": "gif"}})
    assert refused.json()["error"].endswith("image_format must be 'jpeg', 'png', 'webp' or 'mural'")
    assert format_ending_in("fresco") is MURAL


async def test_it_is_drawn_kept_and_shown(gateway: Gateway, worker: HandWorker) -> None:
    job_id, data = await drawn(gateway, worker)
    width, height, parameters = json.loads(data.removeprefix(b"A MURAL "))
    assert (width, height, parameters["prompt"], parameters["seed"]) == (256, 1024, "a lake", 7)
    url = (await gateway.get(f"{DEV}/status/{job_id}")).json()["output"]["image_url"]
    assert url.endswith(".mrl")
    picture = await gateway.get(url.removeprefix(PUBLIC_URL), headers={"Authorization": ""})
    assert (picture.headers["content-type"], picture.content) == ("image/x-mural", data)


async def test_it_goes_to_a_clients_bucket(gateway: Gateway, worker: HandWorker) -> None:
    job_id, data = await drawn(gateway, worker, s3Config=BUCKET)
    await gateway.settle()
    (sent,) = gateway.sender.sent
    assert f"/pictures/{job_id}.mrl?" in sent.url
    assert (sent.headers, sent.body) == ({"Content-Type": "image/x-mural"}, data)


async def test_without_its_row_it_is_refused(
    gateway: Gateway, worker: HandWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(IMAGE_FORMATS, MURAL.name)
    await gateway.submit()
    job = await worker.take()
    assert job is not None
    reply = await worker.deliver(job, b"A MURAL []")
    assert (reply.status_code, reply.json()["error"]) == (
        400,
        "the uploaded bytes are no picture of a known format (jpeg, png, webp)",
    )
