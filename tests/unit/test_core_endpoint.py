"""Endpoints as the services see them."""

from decimal import Decimal

import pytest

from flux_endpoint.core.catalog import FLUX_DEV, FLUX_SCHNELL
from flux_endpoint.core.endpoint import FLUX_ENDPOINTS, EndpointSpec, FluxEndpoint
from flux_endpoint.core.errors import InvalidParameter
from flux_endpoint.core.generation import parse_input
from flux_endpoint.core.job import Completed, Failed

DEV: EndpointSpec = FluxEndpoint(FLUX_DEV)
IMAGE_KEY = "a" * 43 + ".png"


def test_a_flux_endpoint_completes_and_prices_the_input() -> None:
    accepted = DEV.accept({"prompt": "a lake", "seed": 7})
    assert accepted.input == parse_input({"prompt": "a lake", "seed": 7}, FLUX_DEV).to_input()
    assert accepted.cost_usd == Decimal("0.02097152")
    with pytest.raises(InvalidParameter, match="width"):
        DEV.accept({"prompt": "a lake", "width": 100})


def test_a_flux_job_with_a_picture_is_completed() -> None:
    output = {"image_url": "https://x.example/a.png", "more": 1}
    assert DEV.conclude(output) == Completed(output)


@pytest.mark.parametrize("key", [IMAGE_KEY, "../etc", 1, None])
def test_a_worker_cannot_name_a_picture_that_is_kept_here(key: object) -> None:
    output = {"image_key": key, "image_url": "https://x.example/a.png"}
    assert DEV.conclude(output) == Failed("the worker named a picture that it has not handed in")


@pytest.mark.parametrize("output", [None, {}, [], "text", {"image_url": 5}])
def test_a_flux_job_without_a_picture_failed(output: object) -> None:
    assert DEV.conclude(output) == Failed("the worker returned no picture")


def test_both_models_have_an_endpoint() -> None:
    assert {spec.endpoint_id: spec.display_name for spec in FLUX_ENDPOINTS.values()} == {
        FLUX_DEV.endpoint_id: "Flux Dev",
        FLUX_SCHNELL.endpoint_id: "Flux Schnell",
    }
