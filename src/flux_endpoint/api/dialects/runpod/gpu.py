"""Giving the memory of GPUs back to other programs while the queue stays open."""

from typing import Final

from starlette.responses import Response

from flux_endpoint.api import schemas
from flux_endpoint.api.admission import KeyHolders
from flux_endpoint.api.http import json_reply
from flux_endpoint.api.operations import Call, Route
from flux_endpoint.api.schemas import JsonObject
from flux_endpoint.core.account import ApiKey, Operation

_SCHEMA: Final[JsonObject] = {
    "type": "object",
    "properties": {
        "workers": {"type": "array", "items": {"type": "string"}, "description": "Ids of the workers that are asked."}
    },
    "required": ["workers"],
}


async def release(call: Call, key: ApiKey) -> Response:
    """Ask workers to take their models out of memory until their next job, which loads them again.

    A worker that draws finishes its pictures first. Jobs are taken as ever, and their pictures are the same; the first
    one waits for the model. Asked are our own workers that ask this gateway for jobs, and by a key for some endpoints
    those that serve no others; `/health?details=true` tells when they have done it.
    """
    return json_reply({"workers": call.services.workforce.memory.unload(key.limits.endpoint_ids)})


ROUTE: Final = Route(
    name="gpu_release",
    methods="POST",
    path="/v2/gpu/release",
    access=KeyHolders(Operation.GPU_RELEASE, has_endpoint=False),
    handler=release,
    summary="Give the GPU back until the next job",
    tag="usage",
    answers=schemas.ERRORS | {200: schemas.json_response("Who is asked.", _SCHEMA)},
)
