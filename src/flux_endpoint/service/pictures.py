"""Where the picture of a job goes: to this server, or to the bucket that its client named."""

from typing import Any, Final

from flux_endpoint.core import ids
from flux_endpoint.core.errors import InvalidRequest
from flux_endpoint.core.generation import ImageFormat
from flux_endpoint.core.job import Job
from flux_endpoint.service.buckets import Buckets
from flux_endpoint.service.gallery import Gallery

# First bytes of the two formats; what else a worker uploads is refused.
_MAGIC: Final = {ImageFormat.PNG: b"\x89PNG\r\n\x1a\n", ImageFormat.JPEG: b"\xff\xd8\xff"}


class Pictures:
    """Keeps the pictures that workers hand in.

    Args:
        gallery: this server's own place.
        buckets: those of clients.
    """

    def __init__(self, gallery: Gallery, buckets: Buckets) -> None:
        self._gallery = gallery
        self._buckets = buckets

    async def keep(self, job: Job, data: bytes) -> dict[str, Any]:
        """Keep the picture of a job; durable on return.

        Returns:
            What the output of the job says of it: `image_key` for one kept here, `image_url` for one in the client's
            bucket.

        Raises:
            InvalidRequest: the bytes are neither a PNG nor a JPEG.
            BucketFailed: the client's bucket did not take it.
            StoreUnavailable: this server's own place did not.
        """
        image_format = next((form for form, magic in _MAGIC.items() if data.startswith(magic)), None)
        if image_format is None:
            raise InvalidRequest("the uploaded bytes are neither a PNG nor a JPEG file")
        if job.s3_config is not None:
            return {"image_url": await self._buckets.put(job.s3_config, job.id, image_format, data)}
        key = ids.new_image_key(image_format.extension)
        await self._gallery.save(key, data)
        return {"image_key": key}
