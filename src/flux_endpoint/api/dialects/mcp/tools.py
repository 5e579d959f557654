"""The tools as agents see them: what they take, and what they answer."""

import base64
import json
from collections.abc import Iterable, Mapping
from typing import Any, Final

import mcp_types

from flux_endpoint.api.dialects.drawing import bytes_of, link_to, problem_of
from flux_endpoint.api.dialects.inputs import ANY_SIDE
from flux_endpoint.api.dialects.mcp import pictures
from flux_endpoint.api.dialects.models import model_name, picture_models
from flux_endpoint.api.operations import Call
from flux_endpoint.api.schemas import JsonObject
from flux_endpoint.core.catalog import FLUX_DEV
from flux_endpoint.core.endpoint import EndpointSpec
from flux_endpoint.core.errors import InvalidParameter
from flux_endpoint.core.image_formats import IMAGE_FORMATS, JPEG
from flux_endpoint.core.inputs import OF_CONTROLNET, input_schema
from flux_endpoint.core.job import Job, JobStatus
from flux_endpoint.core.progress import read_progress

INSTRUCTIONS: Final = (
    "Draws pictures from text with FLUX.1. A picture costs money: `estimate` tells how much. A call of `generate` with "
    "the arguments of an earlier one returns the picture of that and costs nothing: change `seed` for another picture."
)
# The first version of the protocol whose results may have links.
LINKS_SINCE: Final = "2025-06-18"
_JOB_ID: Final[JsonObject] = {
    "type": "object",
    "required": ["job_id"],
    "properties": {"job_id": {"type": "string", "description": "As answered by `generate`."}},
}
_WAIT: Final = {"wait_seconds": pictures.WAIT_S.schema("How long to wait for the picture before returning its job_id.")}
_LOOK: Final[JsonObject] = _JOB_ID | {"properties": _JOB_ID["properties"] | _WAIT}
_PICTURE: Final[JsonObject] = {
    "type": "object",
    "required": ["job_id", "status"],
    "properties": {
        "job_id": {"type": "string"},
        "status": {"type": "string", "enum": [status.value for status in JobStatus]},
        "image_url": {"type": "string"},
        "seed": {"type": "integer"},
        "cost_usd": {"type": "number"},
        "warnings": {"type": "array", "items": {"type": "string"}},
    },
}
_LOOKS: Final = mcp_types.ToolAnnotations(read_only_hint=True, open_world_hint=False)
_DRAWS: Final = mcp_types.ToolAnnotations(
    read_only_hint=False, destructive_hint=False, idempotent_hint=True, open_world_hint=False
)
_STOPS: Final = mcp_types.ToolAnnotations(
    read_only_hint=False, destructive_hint=True, idempotent_hint=True, open_world_hint=False
)


def tools(specs: Iterable[EndpointSpec]) -> list[mcp_types.Tool]:
    """The tools of a server that serves some endpoints."""
    asked = _inputs(specs)
    return [
        mcp_types.Tool(
            name="generate",
            title="Draw a picture",
            description=(
                "Draw a picture from text; returns it with a link. If it is not done after `wait_seconds`, returns its "
                "job_id: call `status` with it. The same arguments again return the same picture and cost nothing."
            ),
            input_schema=asked | {"properties": asked["properties"] | _WAIT},
            output_schema=_PICTURE,
            annotations=_DRAWS,
        ),
        mcp_types.Tool(
            name="estimate",
            title="Estimate cost and time",
            description="What `generate` with the same arguments would cost and how long it would take. Costs nothing.",
            input_schema=asked,
            annotations=_LOOKS,
        ),
        mcp_types.Tool(
            name="status",
            title="Look at a picture that is being drawn",
            description="Wait for a picture of `generate`; returns it when it is done, or else where it stands.",
            input_schema=_LOOK,
            output_schema=_PICTURE,
            annotations=_LOOKS,
        ),
        mcp_types.Tool(
            name="cancel",
            title="Stop drawing a picture",
            description="Stop a picture of `generate` that is not done. What is not drawn costs nothing.",
            input_schema=_JOB_ID,
            output_schema=_PICTURE,
            annotations=_STOPS,
        ),
    ]


def job_id_in(arguments: Mapping[str, Any]) -> str:
    """The job that is asked about.

    Raises:
        InvalidParameter: none is named.
    """
    job_id = arguments.get("job_id")
    if not isinstance(job_id, str):
        raise InvalidParameter("job_id", "is required: the id that `generate` has answered")
    return job_id


async def result_of(call: Call, spec: EndpointSpec, job: Job, *, has_links: bool) -> mcp_types.CallToolResult:
    """What a tool answers about a job: its picture, or where it stands.

    Args:
        call: who asks.
        spec: its endpoint.
        job: what is shown.
        has_links: whether the client knows links as such; they stand in the text in any case.
    """
    told: JsonObject = {"job_id": job.id, "status": job.status.value}
    if job.status is not JobStatus.COMPLETED:
        return _without_picture(job, told)
    shown = spec.present(job, "")
    link = link_to(call, shown)
    told |= {"image_url": link, "seed": shown["seed"], "cost_usd": shown["cost"]}
    told |= {"warnings": shown["warnings"]} if "warnings" in shown else {}
    made = job.input
    assert isinstance(made, Mapping)
    media_type = IMAGE_FORMATS[made["image_format"]].media_type
    content: list[mcp_types.ContentBlock] = []
    if (data := await bytes_of(call, shown)) is not None:
        content.append(mcp_types.ImageContent(data=base64.b64encode(data).decode(), mime_type=media_type))
    if has_links:
        content.append(mcp_types.ResourceLink(name="picture", uri=link, mime_type=media_type))
    content.append(mcp_types.TextContent(text=json.dumps(told)))
    return mcp_types.CallToolResult(content=content, structured_content=told)


def facts(told: JsonObject) -> mcp_types.CallToolResult:
    """What a tool answers that only tells something."""
    return mcp_types.CallToolResult(content=[mcp_types.TextContent(text=json.dumps(told))], structured_content=told)


def failure(text: str) -> mcp_types.CallToolResult:
    """Why a tool could not do what it was asked, in words that an agent can act on."""
    return mcp_types.CallToolResult(content=[mcp_types.TextContent(text=text)], is_error=True)


def _without_picture(job: Job, told: JsonObject) -> mcp_types.CallToolResult:
    if job.status.is_terminal:
        text = problem_of(job)
        is_error = job.status is not JobStatus.CANCELLED
    else:
        progress = read_progress(job.progress)
        where = f"step {progress['step']} of {progress['total']}" if progress else "waiting for a worker"
        text, is_error = f"not done yet ({where}): call status with job_id {job.id}", False
    return mcp_types.CallToolResult(
        content=[mcp_types.TextContent(text=text)], structured_content=told, is_error=is_error
    )


def _inputs(specs: Iterable[EndpointSpec]) -> JsonObject:
    fields = input_schema(FLUX_DEV)["properties"]
    offered = picture_models(specs)
    for spec in offered:
        # Of maps to draw along, what some model here reads.
        fields |= {name: one for name, one in spec.input_schema["properties"].items() if name in OF_CONTROLNET}
    sides = {name: ANY_SIDE.schema(fields[name]["description"]) for name in ("width", "height")}
    names = [model_name(spec) for spec in offered]
    model = {"model": {"type": "string", "enum": names, "description": f"Default: {names[0]}."}} if names else {}
    file = {"image_format": fields["image_format"] | {"default": JPEG.name}}
    return {"type": "object", "required": ["prompt"], "properties": fields | sides | model | file}
