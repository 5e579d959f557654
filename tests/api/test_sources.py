"""Pictures that clients send to draw from: checked before anything is queued, kept, and handed to the job's worker."""

import base64
import hashlib
import io
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image

from flux_endpoint.core.catalog import FLUX_CANNY
from flux_endpoint.core.endpoint import FluxEndpoint
from flux_endpoint.core.errors import OutboundRefused
from tests.api.asking import status, taken
from tests.api.conftest import DEV, ENDPOINTS, PNG_BYTES, WORKER_TOKEN, FakeSender, Gateway, HandWorker, open_gateway

pytestmark = pytest.mark.anyio

URL = "https://pictures.example/fox.png"


def file_of(size: tuple[int, int] = (640, 384), mode: str = "RGB", colour: str = "red") -> bytes:
    file = io.BytesIO()
    Image.new(mode, size, colour).save(file, "PNG")
    return file.getvalue()


def data_url(data: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(data).decode()}"


FOX = data_url(file_of())
MASK = data_url(file_of(mode="L", colour="white"))
NO_URL = "must be an http:// or https:// URL of at most 2000 characters, or a data: URL in base64"


async def source(worker: HandWorker, job: dict[str, Any], sha256: str, token: int | None = None) -> httpx.Response:
    query = {"claimToken": job["claimToken"] if token is None else token, "sha256": sha256}
    path = f"{DEV}/job-source/{worker.id}/{job['id']}"
    return await worker.client.get(path, params=query, headers=worker.headers)


async def test_a_picture_reaches_the_worker_as_it_is_kept(gateway: Gateway, worker: HandWorker) -> None:
    job = await taken(gateway, worker, image=FOX, mask=MASK, strength=0.5)
    image, mask = job["input"]["image"], job["input"]["mask"]
    assert (image["width"], image["height"], job["input"]["strength"]) == (640, 384, 0.5)
    # What was sent is not what the worker gets.
    assert "data:" not in str(job["input"])
    for kept, mode in ((image, "RGB"), (mask, "L")):
        reply = await source(worker, job, kept["sha256"])
        assert (reply.status_code, reply.headers["content-type"]) == (200, "image/png")
        assert hashlib.sha256(reply.content).hexdigest() == kept["sha256"]
        assert Image.open(io.BytesIO(reply.content)).mode == mode


async def test_a_worker_gets_the_pictures_of_jobs_that_it_holds_only(gateway: Gateway, worker: HandWorker) -> None:
    job = await taken(gateway, worker, image=FOX)
    sha256 = job["input"]["image"]["sha256"]
    assert (await source(worker, job, "0" * 64)).status_code == 404
    assert (await source(worker, job, sha256, token=job["claimToken"] + 1)).status_code == 409
    assert (await source(HandWorker(gateway.client, "worker-2"), job, sha256)).status_code == 409
    await worker.finish(job)
    assert (await source(worker, job, sha256)).status_code == 409
    worker.headers = {"Authorization": f"not {WORKER_TOKEN}"}
    assert (await source(worker, job, sha256)).status_code == 401


@pytest.mark.parametrize(
    ("size", "asked", "drawn"),
    [
        ((640, 384), {}, (640, 384)),
        ((650, 400), {}, (640, 384)),
        ((4_000, 3_000), {}, (1536, 1152)),
        ((100, 50), {}, (512, 256)),
        ((640, 320), {"width": 1024}, (1024, 512)),
        ((640, 320), {"height": 512}, (1024, 512)),
        ((640, 384), {"width": 512, "height": 512}, (512, 512)),
        ((640, 384), {"size": "512x512"}, (512, 512)),
    ],
)
async def test_the_result_has_the_shape_of_the_picture_unless_a_size_is_asked_for(
    gateway: Gateway, worker: HandWorker, size: tuple[int, int], asked: dict[str, Any], drawn: tuple[int, int]
) -> None:
    body = {"input": {"prompt": "a fox", "image": data_url(file_of(size))} | asked}
    estimated = (await gateway.post(f"{DEV}/estimate", body)).json()["cost"]
    assert estimated == pytest.approx(drawn[0] * drawn[1] * 0.02 / 1e6)
    job = await taken(gateway, worker, **body["input"])
    assert (job["input"]["width"], job["input"]["height"]) == drawn
    await worker.finish(job)
    assert (await status(gateway, job["id"], DEV))["output"]["cost"] == estimated


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"image": 7}, f"image {NO_URL}"),
        (
            {"image": "fox.png"},
            "image must be an http:// or https:// URL of at most 2000 characters, or a data: URL in base64",
        ),
        (
            {"image": "data:image/png,fox"},
            "image must be a data: URL in base64: data:MEDIA_TYPE;base64,...",
        ),
        ({"image": "data:;base64,====="}, "image is no valid base64"),
        ({"image": data_url(b"GIF89a")}, "image is no jpeg, png or webp file"),
        ({"input_image": data_url(b"GIF89a")}, "input_image is no jpeg, png or webp file"),
        ({"image": "http://127.0.0.1/fox.png"}, "image cannot be called: 127.0.0.1 is a loopback address"),
        ({"image": "https://pictures.example/gone.png"}, "image cannot be fetched: the answer is HTTP 404"),
        ({"mask": MASK}, "mask needs an image that it is for"),
        ({"image": FOX, "mask_url": data_url(b"GIF89a")}, "mask_url is no jpeg, png or webp file"),
        ({"image": FOX, "strength": 1.5}, "strength must be between 0 and 1"),
    ],
)
async def test_a_wrong_picture_is_refused_by_the_name_of_its_field(
    gateway: Gateway, worker: HandWorker, fields: dict[str, Any], problem: str
) -> None:
    reply = await gateway.post(f"{DEV}/run", {"input": {"prompt": "a fox"} | fields})
    assert reply.status_code == 400
    assert reply.json()["error"].startswith(f"Invalid parameter: {problem}")
    assert reply.json()["status"] == "FAILED"
    assert await worker.take() is None
    assert (await gateway.post(f"{DEV}/estimate", {"input": {"prompt": "a fox"} | fields})).status_code == 400


async def test_a_picture_is_fetched_from_where_it_is_and_a_repeated_request_fetches_nothing(
    gateway: Gateway, worker: HandWorker
) -> None:
    gateway.sender.files[URL] = file_of()
    body = {"input": {"prompt": "a fox", "image": URL}}
    replies = [await gateway.post(f"{DEV}/run", body, headers={"Idempotency-Key": "one"}) for _ in range(2)]
    assert replies[0].json() == replies[1].json()
    assert gateway.sender.fetched == [URL]
    job = await worker.take()
    assert job is not None
    assert job["input"]["image"]["width"] == 640


async def test_a_picture_of_this_server_is_taken_by_its_link_without_a_call(
    gateway: Gateway, worker: HandWorker
) -> None:
    job = await taken(gateway, worker, image_format="png")
    await worker.deliver(job, file_of())
    link = (await status(gateway, job["id"], DEV))["output"]["image_url"]
    again = await taken(gateway, worker, image=link)
    assert again["input"]["image"]["width"] == 640
    assert gateway.sender.fetched == []
    # Not by a link that is over: then it is one like any other.
    gateway.clock.advance(ms=8 * 86_400_000)
    reply = await gateway.post(f"{DEV}/run", {"input": {"prompt": "a fox", "image": link}})
    assert (reply.status_code, gateway.sender.fetched) == (400, [link])


async def test_no_picture_is_fetched_from_where_the_rules_forbid_it(gateway: Gateway) -> None:
    async def refuse(*_: object) -> bytes:
        raise OutboundRefused("10.0.0.1 is a private address")

    gateway.sender.fetch = refuse
    reply = await gateway.post(f"{DEV}/run", {"input": {"prompt": "a fox", "image": URL}})
    assert reply.json()["error"] == "Invalid parameter: image cannot be fetched: 10.0.0.1 is a private address"


async def test_the_requests_of_a_batch_have_their_pictures_and_one_is_fetched_once(
    gateway: Gateway, worker: HandWorker
) -> None:
    gateway.sender.files[URL] = file_of()
    requests = [{"input": {"prompt": "a fox", "image": URL, "seed": seed}} for seed in range(3)]
    batch = (await gateway.post(f"{DEV}/batch", requests)).json()
    assert (await gateway.post(f"{DEV}/batch/{batch['id']}/finalize")).status_code == 200
    jobs = [await worker.take() for _ in requests]
    assert len({job["input"]["image"]["key"] for job in jobs if job}) == 1
    assert gateway.sender.fetched == [URL]
    wrong = [{"input": {"prompt": "a fox"}}, {"input": {"prompt": "a fox", "image": "https://pictures.example/no"}}]
    reply = await gateway.post(f"{DEV}/batch", wrong)
    problem = "request 1 (counted from 0): Invalid parameter: image cannot be fetched: the answer is HTTP 404"
    assert (reply.status_code, reply.json()["error"]) == (400, problem)


def test_an_endpoint_of_ones_own_gets_its_fields_as_they_are() -> None:
    accepted = ENDPOINTS["echo"].accept({"image": FOX})
    assert accepted.sent is None
    assert accepted.input == {"image": FOX}


async def test_a_kept_picture_outlives_the_retention_of_results_while_a_job_may_wait_for_it(
    gateway: Gateway, worker: HandWorker
) -> None:
    key = (await taken(gateway, worker, image=FOX))["input"]["image"]["key"]
    images, day_ms = gateway.services.images, 86_400_000
    result = f"{'r' * 43}.png"
    await images.save(result, PNG_BYTES)
    # As long as a job may live; results go after a week by default.
    gateway.clock.advance(ms=7 * day_ms + 3_600_000)
    assert await images.sweep() == 1
    assert [piece async for piece in images.read(key)]
    gateway.clock.advance(ms=8 * day_ms)
    assert await images.sweep() == 1


CANNY = "/v2/black-forest-labs-flux-1-canny-dev"
EDGES = file_of((650, 400), colour="white")


async def test_a_map_to_draw_along_reaches_the_worker_of_a_model_that_reads_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(ENDPOINTS, FLUX_CANNY.endpoint_id, FluxEndpoint(FLUX_CANNY))
    async with open_gateway(tmp_path, FakeSender()) as gateway:
        worker = HandWorker(gateway.client, endpoint=CANNY)
        fields = {"prompt": "a hall", "control_image": data_url(EDGES)}
        estimated = (await gateway.post(f"{CANNY}/estimate", {"input": fields})).json()["cost"]
        assert estimated == pytest.approx(640 * 384 * 0.02 / 1e6)
        # In base64 alone, as Black Forest Labs has it, it is the same.
        bare = {"prompt": "a hall", "preprocessed_image": base64.b64encode(EDGES).decode(), "output_format": "png"}
        kept = []
        for path, body in ((f"{CANNY}/run", {"input": fields}), ("/v1/flux-canny-dev", bare)):
            assert (await gateway.post(path, body)).status_code == 200
            job = await worker.take()
            assert job is not None
            kept.append(job["input"]["control_image"]["sha256"])
            assert (job["input"]["width"], job["input"]["height"]) == (640, 384)
            query = {"claimToken": job["claimToken"], "sha256": kept[-1]}
            path = f"{CANNY}/job-source/{worker.id}/{job['id']}"
            reply = await gateway.client.get(path, params=query, headers=worker.headers)
            assert hashlib.sha256(reply.content).hexdigest() == kept[-1]
            await worker.finish(job)
        assert kept[0] == kept[1]


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({}, "control_image is required"),
        ({"image": FOX}, "control_image is required"),
        ({"control_image_url": data_url(b"GIF89a")}, "control_image_url is no jpeg, png or webp file"),
        ({"control_image": FOX, "guidance": 101}, "guidance must be between 0 and 100"),
    ],
)
async def test_a_wrong_map_is_refused_by_the_name_of_its_field(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fields: dict[str, Any], problem: str
) -> None:
    monkeypatch.setitem(ENDPOINTS, FLUX_CANNY.endpoint_id, FluxEndpoint(FLUX_CANNY))
    async with open_gateway(tmp_path, FakeSender()) as gateway:
        reply = await gateway.post(f"{CANNY}/run", {"input": {"prompt": "a hall"} | fields})
        assert (reply.status_code, reply.json()["error"]) == (400, f"Invalid parameter: {problem}")
        assert await HandWorker(gateway.client, endpoint=CANNY).take() is None
