"""Where the picture of a job goes: to this server, or to the bucket that its client named."""

from collections.abc import Mapping
from typing import Any

from flux_endpoint.core.errors import InvalidRequest
from flux_endpoint.core.image_formats import IMAGE_FORMATS, format_of, new_image_key
from flux_endpoint.core.job import Completed, Job
from flux_endpoint.service.images import ImageService
from flux_endpoint.service.uploads import Uploads
from flux_endpoint.stores.jobs.protocol import ClaimStore
from flux_endpoint.stores.pictures.protocol import PictureStore


class Pictures:
    """Takes the pictures that workers hand in.

    Args:
        claims: where the jobs are.
        store: whose a picture is while it is on its way.
        images: this server's own place.
        uploads: carries them to buckets of clients.
    """

    def __init__(self, claims: ClaimStore, store: PictureStore, images: ImageService, uploads: Uploads) -> None:
        self._claims = claims
        self._store = store
        self._images = images
        self._uploads = uploads
        # Of files that were handed in, for the metrics.
        self.taken_bytes = 0

    async def deliver(self, job: Job, worker_id: str, token: int | None, data: bytes, said: Mapping[str, Any]) -> None:
        """Take the picture of a job. One kept here ends it; another one does when it is in its bucket.

        Args:
            job: as the worker got it.
            worker_id: who has drawn it.
            token: see `JobStore.finish`.
            data: the file.
            said: of the picture, for the client; see `EncodedImage`.

        Raises:
            InvalidRequest: the bytes are no picture of a known format.
            LeaseLost: the job is not held by this worker and token.
            UnknownJob: no such job.
            StoreUnavailable: it could not be kept.
        """
        image_format = format_of(data)
        if image_format is None:
            raise InvalidRequest(f"the uploaded bytes are no picture of a known format ({', '.join(IMAGE_FORMATS)})")
        self.taken_bytes += len(data)
        if job.bucket is not None:
            await self._uploads.take(job, worker_id, token, image_format, data, said)
            return
        # Known before a byte is kept: a token must not fill the disk with pictures of jobs that are not its own, and
        # what a killed process leaves behind must be found.
        new_key = new_image_key(image_format.extension)
        key = await self._store.reserve_picture(job.id, worker_id, token, new_key)
        if key is None:
            return
        await self._images.save(key, data)
        await self._claims.finish(job.id, worker_id, token, Completed({"image_key": key, **said}, picture=key))
