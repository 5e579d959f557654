"""The API of A1111's web UI: what its clients read."""

import asyncio
import base64
import json
from typing import Any

import httpx
import pytest

from flux_endpoint.core.account import KeyLimits
from flux_endpoint.engine.png import SIGNATURE, png_chunk
from tests.api.conftest import API_KEY, DEADLINE_S, DEV, PNG_BYTES, SCHNELL, Gateway, HandWorker
from tests.api.onlooker import Onlooker

pytestmark = pytest.mark.anyio

DRAW = "/sdapi/v1/txt2img"
LAKE = {"prompt": "a lake"}
# What clients send each time, as far as it could be taken for a wish.
AS_CLIENTS_DO = {
    "steps": 20,
    "cfg_scale": 7.0,
    "sampler_name": "Euler a",
    "sampler_index": "Euler a",
    "enable_hr": False,
    "hr_upscaler": "Latent",
    "denoising_strength": 0.7,
    "seed": -1,
    "styles": [],
    "script_name": None,
    "script_args": [],
    "alwayson_scripts": {"ADetailer": {"args": [False]}},
    "override_settings": {},
}


async def drawn(gateway: Gateway, worker: HandWorker, **fields: object) -> tuple[list[Any], httpx.Response]:
    """What the worker was told, and the answer."""
    asking = asyncio.create_task(gateway.post(DRAW, LAKE | fields))
    jobs = []
    for _ in range(int(str(fields.get("batch_size", 1))) * int(str(fields.get("n_iter", 1)))):
        jobs.append(await worker.take_next())
        await worker.finish(jobs[-1])
    return [job["input"] for job in jobs], await asyncio.wait_for(asking, DEADLINE_S)


async def test_pictures_come_as_bare_base64(gateway: Gateway, worker: HandWorker) -> None:
    asked, reply = await drawn(gateway, worker, batch_size=2, n_iter=1, seed=5, negative_prompt="fog", steps=9)
    assert reply.status_code == 200, reply.text
    body = reply.json()
    assert body["images"] == [base64.b64encode(PNG_BYTES).decode()] * 2
    assert [(one["width"], one["height"], one["image_format"]) for one in asked] == [(512, 512, "png")] * 2
    info = json.loads(body["info"])
    assert (info["seed"], info["all_seeds"], info["sd_model_name"], info["sampler_name"]) == (
        5,
        [5, 6],
        "flux-dev",
        "Euler",
    )
    first, second, third = info["infotexts"][0].split("\n")
    assert (first, second) == ("a lake", "Negative prompt: fog")
    assert third.startswith("Steps: 9, Sampler: Euler, CFG scale: 3, Distilled CFG Scale: 7.5, Seed: 5, Size: 512x512,")
    assert body["parameters"]["steps"] == 9


async def test_what_clients_send_each_time_is_no_wish(gateway: Gateway, worker: HandWorker) -> None:
    [asked], reply = await drawn(gateway, worker, **AS_CLIENTS_DO)
    assert (asked["num_inference_steps"], asked["guidance"]) == (20, 7.5)
    assert "warnings" not in json.loads(reply.json()["info"])


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"cfg_scale": 3}, {"guidance": 3}),
        ({"distilled_cfg_scale": 2.5, "cfg_scale": 1}, {"guidance": 2.5}),
        (
            {"distilled_cfg_scale": 2.5, "cfg_scale": 4, "negative_prompt": "fog"},
            {"guidance": 2.5, "true_cfg_scale": 4},
        ),
        ({"width": 1000, "height": 600}, {"width": 1000, "height": 600}),
        ({"seed": 2**32 + 3}, {"seed": 3}),
    ],
)
async def test_fields_are_those_of_flux(
    gateway: Gateway, worker: HandWorker, fields: dict[str, object], told: dict[str, object]
) -> None:
    [asked], _ = await drawn(gateway, worker, **fields)
    assert {name: asked[name] for name in told} == told


async def test_a_request_names_a_model_and_a_key_chooses_one(gateway: Gateway) -> None:
    schnell = HandWorker(gateway.client, endpoint=SCHNELL)
    settings = {"sd_model_checkpoint": "flux-schnell", "CLIP_stop_at_last_layers": 2}
    [asked], reply = await drawn(gateway, schnell, **AS_CLIENTS_DO | {"override_settings": settings})
    # Twenty steps are more than this model takes, and what clients send.
    assert asked["num_inference_steps"] == 4
    warnings = json.loads(reply.json()["info"])["warnings"]
    assert [words in text for words, text in zip(("CLIP_stop", "steps 20"), warnings, strict=True)] == [True, True]
    titles = [model["title"] for model in (await gateway.get("/sdapi/v1/sd-models")).json()]
    assert titles == ["flux-dev", "flux-schnell"]
    assert (await gateway.get("/sdapi/v1/options")).json()["sd_model_checkpoint"] == "flux-dev"
    assert (await gateway.post("/sdapi/v1/options", {"sd_model_checkpoint": titles[1]})).status_code == 200
    assert (await gateway.get("/sdapi/v1/options")).json()["sd_model_checkpoint"] == "flux-schnell"
    await drawn(gateway, schnell)
    reply = await gateway.post("/sdapi/v1/options", {"sd_model_checkpoint": "sdxl"})
    assert (reply.status_code, "served: flux-dev" in reply.json()["detail"]) == (404, True)
    _, other = await gateway.services.accounts.create("other")
    reply = await gateway.get("/sdapi/v1/options", headers={"Authorization": f"Bearer {other}"})
    assert reply.json()["sd_model_checkpoint"] == "flux-dev"


async def test_progress_is_told_and_pictures_are_interrupted(gateway: Gateway, worker: HandWorker) -> None:
    idle = (await gateway.get("/sdapi/v1/progress")).json()
    assert (idle["progress"], idle["state"]["job_count"], idle["current_image"]) == (0.0, 0, None)
    await gateway.submit()
    asking = asyncio.create_task(gateway.post(DRAW, LAKE | {"batch_size": 2}))
    await worker.take_next()
    job = await worker.take_next()
    await worker.send(job, {"step": 7, "total": 28, "eta_ms": 1_500, "preview": "data:image/jpeg;base64,AAAA"})
    running = (await gateway.get("/sdapi/v1/progress")).json()
    assert (running["progress"], running["eta_relative"], running["current_image"]) == (0.25, 1.5, "AAAA")
    assert running["state"]["job_count"] == 2
    assert (running["state"]["sampling_step"], running["state"]["sampling_steps"]) == (7, 28)
    assert (await gateway.post("/sdapi/v1/interrupt")).status_code == 200
    reply = await asyncio.wait_for(asking, DEADLINE_S)
    assert (reply.status_code, "cancelled" in reply.json()["detail"]) == (409, True)
    # What came by another dialect goes on.
    health = (await gateway.get(f"{DEV}/health")).json()
    assert health["jobs"]["inProgress"] == 1


async def test_a_failure_is_told(gateway: Gateway, worker: HandWorker) -> None:
    asking = asyncio.create_task(gateway.post(DRAW, LAKE))
    await worker.done(await worker.take_next(), {"error": "no paint"})
    reply = await asyncio.wait_for(asking, DEADLINE_S)
    assert (reply.status_code, "no paint" in reply.json()["detail"]) == (500, True)


async def test_a_client_that_hangs_up_cancels(gateway: Gateway, worker: HandWorker) -> None:
    client = Onlooker(gateway, DRAW, LAKE)
    await worker.take_next()
    client.leave()
    await client.task
    assert (await gateway.get(f"{DEV}/health")).json()["jobs"]["inProgress"] == 0


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"prompt": ""}, "prompt must not be empty"),
        ({"steps": 99}, "steps must be between 1 and 50"),
        ({"batch_size": 4, "n_iter": 4}, "batch_size must be between 1 and 10"),
        ({"enable_hr": True}, "enable_hr is not taken here"),
        ({"script_name": "x/y/z plot"}, "script_name is not taken here"),
        ({"init_images": ["data:,x"]}, "init_images is not taken here"),
        ({"mask": "x"}, "mask is not taken here"),
        ({"alwayson_scripts": {"ControlNet": {"args": [{"image": "x"}]}}}, "there is no such script"),
        ({"alwayson_scripts": []}, "alwayson_scripts must be an object"),
        ({"override_settings": {"sd_model_checkpoint": 3}}, "sd_model_checkpoint must be a string"),
    ],
)
async def test_what_is_wrong_is_said(
    gateway: Gateway, worker: HandWorker, fields: dict[str, object], words: str
) -> None:
    reply = await gateway.post(DRAW, LAKE | fields)
    assert reply.status_code == 422
    assert words in reply.json()["detail"]
    assert await worker.take() is None


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({}, "init_images must be a list of one picture"),
        ({"init_images": []}, "init_images must be a list of one picture"),
        ({"init_images": [""]}, "init_images must be a list of one picture"),
        ({"init_images": ["AAAA", "AAAA"]}, "init_images must be a list of one picture"),
        ({"init_images": ["AAAA"]}, "init_images is no jpeg, png or webp file"),
        ({"init_images": ["AAAA"], "denoising_strength": 2}, "denoising_strength must be between 0 and 1"),
        ({"init_images": ["AAAA"], "inpainting_mask_invert": 1}, "inpainting_mask_invert is not taken here"),
    ],
)
async def test_a_wrong_picture_to_start_from_is_told(
    gateway: Gateway, worker: HandWorker, fields: dict[str, object], words: str
) -> None:
    reply = await gateway.post("/sdapi/v1/img2img", LAKE | fields)
    assert (reply.status_code, words in reply.json()["detail"]) == (422, True), reply.text
    assert await worker.take() is None


async def test_a_key_is_the_password(gateway: Gateway) -> None:
    for password, status_code in ((API_KEY, 200), ("wrong", 401)):
        auth = base64.b64encode(f"anybody:{password}".encode()).decode()
        reply = await gateway.get("/sdapi/v1/options", headers={"Authorization": f"Basic {auth}"})
        assert reply.status_code == status_code


async def test_lists(gateway: Gateway) -> None:
    assert [one["name"] for one in (await gateway.get("/sdapi/v1/samplers")).json()] == ["Euler"]
    assert (await gateway.get("/sdapi/v1/scripts")).json() == {"txt2img": [], "img2img": []}
    assert (await gateway.get("/sdapi/v1/upscalers")).json() == []
    reply = await gateway.get("/sdapi/v1/nonsense")
    assert (reply.status_code, "samplers" in reply.json()["detail"]) == (404, True)
    assert (await gateway.post("/sdapi/v1/refresh-checkpoints")).status_code == 200


async def test_the_texts_of_a_picture(gateway: Gateway) -> None:
    chunks = [png_chunk(b"tEXt", b"parameters\0a lake\nSteps: 4"), png_chunk(b"iTXt", "seed\0\0\0\0\0é".encode())]
    for prefix in ("data:image/png;base64,", ""):
        image = prefix + base64.b64encode(SIGNATURE + b"".join(chunks)).decode()
        told = (await gateway.post("/sdapi/v1/png-info", {"image": image})).json()
        assert (told["info"], told["items"]) == ("a lake\nSteps: 4", {"parameters": "a lake\nSteps: 4", "seed": "é"})
    image = base64.b64encode(SIGNATURE + chunks[1]).decode()
    assert (await gateway.post("/sdapi/v1/png-info", {"image": image})).json()["info"] == "seed: é"
    for wrong in ({}, {"image": 3}, {"image": "!"}, {"image": "é"}, {"image": "AAAA"}):
        assert (await gateway.post("/sdapi/v1/png-info", wrong)).status_code == 422


async def test_the_model_of_a_key_that_opens_one_is_that(gateway: Gateway) -> None:
    limits = KeyLimits(endpoint_ids=frozenset({SCHNELL.removeprefix("/v2/")}))
    _, guest = await gateway.services.accounts.create("guest", limits=limits)
    options = await gateway.get("/sdapi/v1/options", headers={"Authorization": f"Bearer {guest}"})
    assert options.json()["sd_model_checkpoint"] == "flux-schnell"


async def test_an_option_with_a_strange_name_is_told_in_words_that_a_header_can_hold(
    gateway: Gateway, worker: HandWorker
) -> None:
    asking = asyncio.create_task(gateway.post(DRAW, LAKE | {"override_settings": {"\x1f\r\n": 1}}))
    await worker.finish(await worker.take_next())
    reply = await asyncio.wait_for(asking, DEADLINE_S)
    assert reply.headers["x-warning"] == r"override_settings.\x1f\r\n is not known here"
