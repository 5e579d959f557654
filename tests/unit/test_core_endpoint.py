"""Endpoints as the services see them."""

from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from flux_endpoint.core.catalog import (
    FLUX_CANNY,
    FLUX_DEPTH,
    FLUX_DEV,
    FLUX_FILL,
    FLUX_KONTEXT,
    FLUX_SCHNELL,
    ModelSpec,
)
from flux_endpoint.core.endpoint import FLUX_ENDPOINTS, EndpointSpec, FluxEndpoint
from flux_endpoint.core.errors import InvalidParameter
from flux_endpoint.core.generation import parse_input
from flux_endpoint.core.job import Completed, Failed, Job, JobStatus
from flux_endpoint.core.raw_json import RawJson, raw_if_big

PICTURE = "https://x.example/a.png"
DEV: EndpointSpec = FluxEndpoint(FLUX_DEV)
IMAGE_KEY = "a" * 43 + ".png"
JOB = Job("job", DEV.endpoint_id, JobStatus.IN_PROGRESS, DEV.accept({"prompt": "a"}).input, "key", Decimal(1), 1, 1)


def test_a_flux_endpoint_completes_and_prices_the_input() -> None:
    accepted = DEV.accept({"prompt": "a lake", "seed": 7})
    assert accepted.input == parse_input({"prompt": "a lake", "seed": 7}, FLUX_DEV).to_input()
    assert accepted.cost_usd == Decimal("0.02097152")
    with pytest.raises(InvalidParameter, match="width"):
        DEV.accept({"prompt": "a lake", "width": 100})


def test_a_flux_job_with_a_picture_is_completed() -> None:
    output = {"image_url": "https://x.example/a.png", "more": 1}
    assert DEV.conclude(JOB, output) == Completed(output)


@pytest.mark.parametrize("key", [IMAGE_KEY, "../etc", 1, None])
def test_a_worker_cannot_name_a_picture_that_is_kept_here(key: object) -> None:
    output = {"image_key": key, "image_url": "https://x.example/a.png"}
    assert DEV.conclude(JOB, output) == Failed("the worker named a picture that it has not handed in")


def test_a_worker_of_somebody_elses_returns_as_many_pictures_as_were_paid_for() -> None:
    job = replace(JOB, input=DEV.accept({"prompt": "a", "num_images": 2}).input)
    link = "https://x.example/a.png"
    assert isinstance(DEV.conclude(job, {"image_url": link}), Failed)
    assert isinstance(DEV.conclude(job, {"image_url": link, "images": [link]}), Failed)
    assert isinstance(DEV.conclude(job, {"image_url": link, "images": "ab"}), Failed)
    both = {"image_url": link, "images": [link, link]}
    assert DEV.conclude(job, both) == Completed(both)


def test_an_output_has_its_link_also_when_its_prompts_are_long() -> None:
    fields = {"prompt": "\U0001f98a" * 10_000, "negative_prompt": "\U0001f98a" * 10_000, "seed": 7, "num_images": 2}
    job = replace(JOB, input=raw_if_big(DEV.accept(fields).input), status=JobStatus.COMPLETED)
    assert isinstance(job.input, RawJson)
    shown = DEV.present(replace(job, output={"image_keys": ["1.png", "2.png"]}), "https://x/")
    assert (shown["image_url"], shown["images"]) == ("https://x/1.png", ["https://x/1.png", "https://x/2.png"])
    assert (shown["seed"], shown["seeds"]) == (7, [7, 8])


@pytest.mark.parametrize("output", [None, {}, [], "text", {"image_url": 5}])
def test_a_flux_job_without_a_picture_failed(output: object) -> None:
    assert DEV.conclude(JOB, output) == Failed("the worker returned no picture")


def test_all_models_have_an_endpoint() -> None:
    assert {spec.endpoint_id: spec.display_name for spec in FLUX_ENDPOINTS.values()} == {
        FLUX_DEV.endpoint_id: "Flux Dev",
        FLUX_SCHNELL.endpoint_id: "Flux Schnell",
        FLUX_KONTEXT.endpoint_id: "Flux Kontext Dev",
        FLUX_FILL.endpoint_id: "Flux Fill Dev",
        FLUX_CANNY.endpoint_id: "Flux Canny Dev",
        FLUX_DEPTH.endpoint_id: "Flux Depth Dev",
    }


def test_kontext_costs_the_same_at_every_size_and_says_what_it_does_not_heed() -> None:
    fields = {"prompt": "winter", "image": "data:image/png;base64,aa", "mask": "ftp://x", "prompt_strength": 0.5}
    accepted = FluxEndpoint(FLUX_KONTEXT).accept(fields | {"size": "512*768", "enable_safety_checker": True})
    assert accepted.cost_usd == Decimal("0.025")
    assert accepted.warnings == (
        "enable_safety_checker has no effect on FLUX",
        "mask has no effect on Flux Kontext Dev",
        "prompt_strength has no effect on Flux Kontext Dev",
    )
    assert accepted.sent is not None
    assert list(accepted.sent.pictures) == ["image"]
    assert (accepted.input["width"], accepted.input["height"]) == (512, 768)


@pytest.mark.parametrize(
    ("spec", "sent", "warning"),
    [
        (FLUX_SCHNELL, {"control_image": "https://x.example/a.png"}, "control_image has no effect on Flux Schnell"),
        (FLUX_KONTEXT, {"control_mode": "pose"}, "control_mode has no effect on Flux Kontext Dev"),
        (FLUX_CANNY, {"control_strength": 0.5}, "control_strength has no effect on Flux Canny Dev"),
        (FLUX_CANNY, {"strength": 0.5}, "strength has no effect on Flux Canny Dev"),
        (FLUX_DEPTH, {"image_url": "https://x.example/b.png"}, "image_url has no effect on Flux Depth Dev"),
    ],
)
def test_a_picture_that_a_model_does_not_read_is_told(spec: ModelSpec, sent: dict[str, Any], warning: str) -> None:
    needed = {"control_image": "https://x.example/map.png"} if spec.family.reads_map else {}
    if spec is FLUX_KONTEXT:
        needed = {"image": "https://x.example/room.png"}
    accepted = FluxEndpoint(spec).accept({"prompt": "a lake"} | needed | sent)
    assert accepted.warnings == (warning,)
    assert list(accepted.sent.pictures if accepted.sent else ()) == list(needed)


@pytest.mark.parametrize(
    ("spec", "sent", "warnings"),
    [
        # Replicate's default, of which diffusers' pipelines draw all four steps, too
        # (findings/diffusers_flux_rounds_strength_up.sh).
        (
            FLUX_SCHNELL,
            {"image_url": PICTURE, "prompt_strength": 0.8},
            ("prompt_strength 0.8 draws all 4 steps, as 1 does: nothing of image_url is kept (0.75 keeps some)",),
        ),
        (
            FLUX_DEV,
            {"image": PICTURE, "num_inference_steps": 3, "strength": 0.7},
            ("strength 0.7 draws all 3 steps, as 1 does: nothing of image is kept (0.66 keeps some)",),
        ),
        (
            FLUX_DEV,
            {"image": PICTURE, "num_inference_steps": 1},
            ("strength 0.6 draws the only step, as 1 does: nothing of image is kept",),
        ),
        (FLUX_SCHNELL, {"image": PICTURE, "strength": 0.75}, ()),
        (FLUX_SCHNELL, {"image": PICTURE, "strength": 1.0}, ()),
        (FLUX_SCHNELL, {}, ()),
        # It reads the picture in every step.
        (FLUX_FILL, {"image": PICTURE, "mask": PICTURE, "strength": 0.99}, ()),
    ],
)
def test_a_strength_that_keeps_nothing_is_told(
    spec: ModelSpec, sent: dict[str, Any], warnings: tuple[str, ...]
) -> None:
    assert FluxEndpoint(spec).accept({"prompt": "a lake"} | sent).warnings == warnings


@pytest.mark.parametrize("spec", FLUX_ENDPOINTS.values(), ids=FLUX_ENDPOINTS)
def test_the_example_of_an_endpoint_is_accepted(spec: EndpointSpec) -> None:
    assert spec.example_input is not None
    assert spec.accept(spec.example_input).warnings == ()
    assert spec.example_prompts
    assert spec.readme
