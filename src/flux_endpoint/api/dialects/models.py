"""What models are called in dialects that name them in a word, and ids that tell the model of their job."""

import re
import uuid
from collections.abc import Iterable
from typing import Final

from flux_endpoint.core.account import ApiKey, Operation
from flux_endpoint.core.endpoint import EndpointSpec
from flux_endpoint.core.errors import UnknownEndpoint, UnknownJob
from flux_endpoint.core.job import Job
from flux_endpoint.service.endpoint import Endpoint, Endpoints

# Between the model and the rest of an id.
_MARK: Final = "_"


def new_job_id(spec: EndpointSpec) -> str:
    """An id that begins with the model, for dialects whose clients name a job by nothing else."""
    return f"{model_name(spec)}{_MARK}{uuid.uuid4()}"


async def job_of(endpoints: Endpoints, key: ApiKey, job_id: str, dialect: str) -> tuple[Endpoint, Job]:
    """The job of an id that `new_job_id` has made, as a key may see it.

    Raises:
        UnknownJob: there is none, or it came by another dialect.
    """
    endpoint = endpoints.opened(_spec_of(endpoints, job_id).endpoint_id, key)
    return endpoint, _of_dialect(await endpoint.status(job_id), dialect)


async def public_job_of(endpoints: Endpoints, job_id: str, dialect: str) -> tuple[EndpointSpec, Job]:
    """The job of an id and its endpoint for whoever knows the id, which cannot be guessed.

    Raises:
        UnknownJob: see `job_of`.
    """
    spec = _spec_of(endpoints, job_id)
    return spec, _of_dialect(await endpoints.store.get(spec.endpoint_id, job_id), dialect)


def model_name(spec: EndpointSpec) -> str:
    """What an endpoint is called as a `model`: `flux-dev`."""
    return _plain(spec.endpoint_id)


def picture_models(specs: Iterable[EndpointSpec]) -> list[EndpointSpec]:
    """The endpoints that draw pictures."""
    return [spec for spec in specs if spec.makes_pictures]


def opened_models(specs: Iterable[EndpointSpec], key: ApiKey) -> list[EndpointSpec]:
    """The endpoints that draw pictures and that a key opens."""
    opened = key.limits.endpoint_ids
    return [spec for spec in picture_models(specs) if opened is None or spec.endpoint_id in opened]


def endpoint_of(endpoints: Endpoints, key: ApiKey, model: str | None) -> Endpoint:
    """The endpoint that a `model` means: its id, a name such as `flux-dev`, or the hub's id.

    None is the first that the key opens.

    Raises:
        UnknownEndpoint: none of that name is served here.
        Forbidden: the key may not draw with it.
    """
    served = picture_models(endpoints.specs)
    for spec in served if model is not None else opened_models(endpoints.specs, key) or served:
        if model is None or _plain(model) == model_name(spec):
            key.require(spec.endpoint_id, Operation.RUNSYNC)
            return endpoints.opened(spec.endpoint_id, key)
    names = ", ".join(model_name(spec) for spec in served) or "none"
    raise UnknownEndpoint(f"the model '{str(model)[:80]}' is not served here; served: {names}")


def _plain(name: str) -> str:
    """`black-forest-labs/FLUX.1-dev`, `black-forest-labs-flux-1-dev` and `flux-dev` are one model: `flux-dev`."""
    plain = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
    return plain.removeprefix("black-forest-labs-").replace("flux-1-", "flux-")


def _spec_of(endpoints: Endpoints, job_id: str) -> EndpointSpec:
    """The endpoint that an id of `new_job_id` tells."""
    model = job_id.partition(_MARK)[0]
    for spec in picture_models(endpoints.specs):
        if model == model_name(spec):
            return spec
    raise UnknownJob(f"there is no job {job_id[:80]}")


def _of_dialect(job: Job, dialect: str) -> Job:
    if job.dialect != dialect:
        raise UnknownJob(f"there is no job {job.id}")
    return job
