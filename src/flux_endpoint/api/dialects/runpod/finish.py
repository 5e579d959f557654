"""Drafts that are drawn to the end."""

from typing import Final

from starlette.responses import Response

from flux_endpoint.api import schemas
from flux_endpoint.api.admission import KeyHolders
from flux_endpoint.api.dialects.runpod import answers, job_schemas
from flux_endpoint.api.dialects.runpod.jobs import receipt_of
from flux_endpoint.api.dialects.runpod.submissions import PICTURE, read_finish
from flux_endpoint.api.http import json_reply
from flux_endpoint.api.operations import Body, Call, Route
from flux_endpoint.api.schemas import JsonObject
from flux_endpoint.core.account import Operation
from flux_endpoint.core.inputs import or_null
from flux_endpoint.core.submission import Submission
from flux_endpoint.service.endpoint import Endpoint

_LIMIT_BYTES: Final = 2**16
_SCHEMA: Final[JsonObject] = {
    "type": "object",
    "properties": {"picture": or_null(PICTURE.schema("Which of the draft's pictures, 1 for the first."))}
    | job_schemas.ENVELOPE,
}
_ANSWERS: Final[dict[int | str, JsonObject]] = schemas.ERRORS | {
    200: schemas.json_response("The job.", job_schemas.JOB_SCHEMA),
    400: schemas.json_response("A field of the body is wrong, and the error names it.", schemas.ERROR_SCHEMA),
    402: schemas.json_response(
        "The job is beyond the API key's monthly budget; it was not queued.", schemas.ERROR_SCHEMA
    ),
    409: schemas.json_response(
        "The job is no completed draft, nothing is kept of it, or no worker of its kind is there: the error says what "
        "to do. Or the Idempotency-Key came with another request before.",
        schemas.ERROR_SCHEMA,
    ),
    410: schemas.json_response(
        "The Idempotency-Key came with this request before, and the result of its job has been erased.",
        job_schemas.JOB_SCHEMA,
    ),
}


async def finish(call: Call, endpoint: Endpoint, job_id: str) -> Response:
    """Draw the steps that a draft (`stop_after`) has left out, as a new job; answers its id at once.

    The picture is the one that the draft's input draws without `stop_after`, byte for byte, and with the draft it costs
    as much. A draft can be finished for as long as its picture is kept, and any number of times.
    """
    receipt = receipt_of(call, sync=False)
    data = await call.read_body()
    asked = await call.services.bodies.read(data, read_finish, endpoint.outbound, job_id)
    if asked.warnings:
        call.tell(asked.warnings)
    draft = await endpoint.status(job_id)
    accepted = await call.services.drafts.finish(endpoint.spec, draft, asked.picture)
    submission = Submission(
        accepted.input,
        accepted.cost_usd,
        asked.policy,
        asked.webhook,
        asked.bucket,
        asked.fingerprint,
        asked.warnings,
    )
    job = await endpoint.submit(submission, receipt)
    call.made_id = job.id
    return json_reply(answers.accepted_body(job))


ROUTE: Final = Route(
    name="runpod_finish",
    methods="POST",
    path="/v2/{endpoint_id}/finish/{job_id}",
    access=KeyHolders(Operation.RUN, may_repeat=True),
    handler=finish,
    summary="Finish a draft",
    tag="jobs",
    parameters=(schemas.IDEMPOTENCY_PARAMETER,),
    body=Body(_LIMIT_BYTES, _SCHEMA, {}),
    answers=_ANSWERS,
)
