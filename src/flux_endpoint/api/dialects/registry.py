"""The dialects that this server speaks. A new one is a folder beside this file, and a line here."""

from collections.abc import Mapping
from typing import Final

from flux_endpoint.api.dialects.protocol import Dialect
from flux_endpoint.api.dialects.runpod.dialect import RUNPOD
from flux_endpoint.api.operations import JsonObject
from flux_endpoint.core.endpoint import EndpointSpec
from flux_endpoint.core.job import Job

DIALECTS: Final[Mapping[str, Dialect]] = {dialect.name: dialect for dialect in (RUNPOD,)}


def webhook_body(spec: EndpointSpec | None, job: Job, base_url: str) -> JsonObject:
    """What the webhook of a job is told, in the dialect that the job came by; links start with `base_url`."""
    return DIALECTS[job.dialect].webhook_body(spec, job, base_url)
