"""Drafts that clients want finished: whether that can be, and as which job."""

from flux_endpoint.core.drafts import gone, kept_in, other_kind
from flux_endpoint.core.endpoint import EndpointSpec, PricedInput
from flux_endpoint.core.errors import ImageGone
from flux_endpoint.core.job import Job
from flux_endpoint.service.images import ImageService
from flux_endpoint.service.workforce import Workforce


class Drafts:
    """Makes requests that go on where drafts stopped.

    Args:
        images: where their latents are.
        workforce: tells which kinds of workers there are.
    """

    def __init__(self, images: ImageService, workforce: Workforce) -> None:
        self._images = images
        self._workforce = workforce

    async def finish(self, spec: EndpointSpec, job: Job, picture: int | None) -> PricedInput:
        """What the job does that finishes a draft.

        Args:
            spec: the endpoint of both.
            job: that drew the draft.
            picture: which of its pictures, 1 for the first; None where it has but one.

        Raises:
            Conflict: it is no draft, or nothing is kept of it, or no worker is of its kind; the text says what to do.
            InvalidParameter: `picture` is none of the draft's, or is needed.
        """
        accepted = spec.finish(job, picture)
        kept = kept_in(job, picture)
        try:
            await self._images.stat(kept.image_key)
        except ImageGone as error:
            raise gone(job.id, str(error)) from None
        kinds = {worker.fingerprint for worker in await self._workforce.workers(spec.endpoint_id)}
        # One that has not said what it is may be of this kind.
        if kinds and "" not in kinds and not any(kept.fingerprint in kind.split("; ") for kind in kinds):
            raise other_kind(job.id)
        return accepted
