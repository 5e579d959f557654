"""The dialects that this server speaks. A new one is a folder beside this file, and a line here."""

from collections.abc import Iterable, Mapping
from typing import Final

from flux_endpoint.api.dialects.a1111.dialect import A1111
from flux_endpoint.api.dialects.bfl.dialect import BFL
from flux_endpoint.api.dialects.fal.dialect import FAL
from flux_endpoint.api.dialects.huggingface.dialect import HUGGINGFACE
from flux_endpoint.api.dialects.mcp.dialect import MCP
from flux_endpoint.api.dialects.openai.dialect import OPENAI
from flux_endpoint.api.dialects.protocol import Dialect
from flux_endpoint.api.dialects.replicate.dialect import REPLICATE
from flux_endpoint.api.dialects.runpod.dialect import RUNPOD
from flux_endpoint.api.schemas import JsonObject
from flux_endpoint.core.endpoint import EndpointSpec
from flux_endpoint.core.errors import SettingsError
from flux_endpoint.core.job import Job

DIALECTS: Final[Mapping[str, Dialect]] = {
    dialect.name: dialect for dialect in (RUNPOD, OPENAI, HUGGINGFACE, BFL, REPLICATE, FAL, A1111, MCP)
}


def spoken(names: Iterable[str] | None) -> list[Dialect]:
    """Runpod's dialect, and those of some names; None for all.

    Raises:
        SettingsError: there is none of a name.
    """
    wanted = list(DIALECTS if names is None else names)
    unknown = [name for name in wanted if name not in DIALECTS]
    if unknown:
        others = ", ".join(name for name in DIALECTS if name != RUNPOD.name)
        raise SettingsError(f"DIALECTS: there is no '{unknown[0][:40]}'; use all, none, or some of: {others}")
    return [dialect for name, dialect in DIALECTS.items() if name in (RUNPOD.name, *wanted)]


def webhook_body(spec: EndpointSpec | None, job: Job, base_url: str) -> JsonObject:
    """What the webhook of a job is told, in the dialect that the job came by; links start with `base_url`."""
    body = DIALECTS[job.dialect].webhook_body
    assert body is not None
    return body(spec, job, base_url)
