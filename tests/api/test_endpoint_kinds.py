"""A kind of endpoint that nobody has heard of: what it tells of itself is all that the gateway knows."""

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import pytest

from flux_endpoint.core.endpoint import EndpointSpec, PricedInput
from flux_endpoint.core.errors import InvalidParameter
from flux_endpoint.core.job import Completed, Failed, Job
from flux_endpoint.core.pricing import Price, PriceUnit
from tests.api.conftest import ENDPOINTS, Gateway, HandWorker

pytestmark = pytest.mark.anyio
POEM = "/v2/poem"


class PoemEndpoint:
    """Writes lines; shows how many."""

    endpoint_id = "poem"
    display_name = "Poems"
    description = "It rhymes."
    readme = "Ask for **few** lines."
    example_prompts = ("Of mice",)
    price = Price(Decimal("0.25"), PriceUnit.JOB)
    makes_pictures = False
    loras = ()
    is_embedded = False
    input_schema: Mapping[str, Any] = {"type": "object", "required": ["lines"]}
    accepted_schema = input_schema
    example_input: Mapping[str, Any] = {"lines": 4}

    def accept(self, fields: Mapping[str, Any], *, any_size: bool = False) -> PricedInput:
        if "lines" not in fields:
            raise InvalidParameter("lines", "is required")
        return PricedInput({"lines": fields["lines"]}, self.price.usd)

    def conclude(self, job: Job, output: Any) -> Completed | Failed:
        return Completed(output) if output else Failed("the worker had no words")

    def present(self, job: Job, images_url: str) -> Any:
        return {"lines": len(job.output), "link": f"{images_url}poem"} if job.output else None


@pytest.fixture(autouse=True)
def _poems(monkeypatch: pytest.MonkeyPatch) -> None:
    poems: EndpointSpec = PoemEndpoint()
    monkeypatch.setitem(ENDPOINTS, "poem", poems)


async def test_it_is_described(gateway: Gateway) -> None:
    assert (await gateway.get("/v2/endpoints")).json()[-1] == {
        "id": "poem",
        "name": "Poems",
        "description": "It rhymes.",
        "price": {"usdPerJob": 0.25},
        "input": {"type": "object", "required": ["lines"]},
        "readme": "Ask for **few** lines.",
        "examples": ["Of mice"],
        "makesPictures": False,
        "loras": [],
        "isEmbeddedModel": False,
    }
    operation = (await gateway.get("/openapi.json")).json()["paths"][f"{POEM}/run"]["post"]
    schema = operation["requestBody"]["content"]["application/json"]["schema"]
    assert schema["properties"]["input"] == {"type": "object", "required": ["lines"]}
    assert schema["examples"] == [{"input": {"lines": 4}}]


async def test_its_jobs_are_estimated_accepted_and_shown_as_it_says(gateway: Gateway) -> None:
    assert (await gateway.post(f"{POEM}/estimate", {"input": {"lines": 2}})).json()["cost"] == 0.25
    refused = await gateway.post(f"{POEM}/run", {"input": {}})
    assert (refused.status_code, refused.json()["error"]) == (400, "Invalid parameter: lines is required")
    job_id = (await gateway.post(f"{POEM}/run", {"input": {"lines": 2, "more": 1}})).json()["id"]
    worker = HandWorker(gateway.client, endpoint=POEM)
    job = await worker.take()
    assert job is not None and job["input"] == {"lines": 2}
    await worker.done(job, {"output": ["Of mice", "and ice"]})
    status = (await gateway.get(f"{POEM}/status/{job_id}")).json()
    assert status["status"] == "COMPLETED"
    assert status["output"] == {"lines": 2, "link": "http://pictures.example:8000/images/poem"}


async def test_its_results_are_judged_as_it_says(gateway: Gateway) -> None:
    job_id = (await gateway.post(f"{POEM}/run", {"input": {"lines": 2}})).json()["id"]
    worker = HandWorker(gateway.client, endpoint=POEM)
    job = await worker.take()
    assert job is not None
    await worker.done(job, {"output": []})
    status = (await gateway.get(f"{POEM}/status/{job_id}")).json()
    assert (status["status"], status["error"]) == ("FAILED", "the worker had no words")
