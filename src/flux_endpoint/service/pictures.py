"""Where the picture of a job goes: to this server, or to the bucket that its client named."""

import asyncio
import logging
import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, Protocol

from flux_endpoint.core import ids
from flux_endpoint.core.errors import BucketFailed, InvalidRequest, OutboundFailed, OutboundRefused
from flux_endpoint.core.generation import ImageFormat
from flux_endpoint.core.job import Job
from flux_endpoint.outbound.protocol import Answer, Sender
from flux_endpoint.service.gallery import Gallery

logger = logging.getLogger(__name__)

# First bytes of the two formats; what else a worker uploads is refused.
_MAGIC: Final = {ImageFormat.PNG: b"\x89PNG\r\n\x1a\n", ImageFormat.JPEG: b"\xff\xd8\xff"}
# The worker waits 30 s for an answer; three tries and their pauses fit into it.
_UPLOAD_TIMEOUT_S: Final = 8.0
_UPLOAD_ATTEMPTS: Final = 3
_UPLOAD_PAUSE_S: Final = 1.0
_ERROR_CODE: Final = re.compile(rb"<Code>([A-Za-z0-9]{1,60})</Code>")


class SignedObject(Protocol):
    """See `images/client_bucket.py`."""

    @property
    def put_url(self) -> str:
        """Takes the bytes."""
        ...

    @property
    def get_url(self) -> str:
        """Shows them."""
        ...


class Pictures:
    """Keeps the pictures that workers hand in.

    Args:
        gallery: this server's own place.
        sender: carries a picture to a client's bucket.
        sign: makes the URLs of an object in a client's bucket.
        sleep: waits between two tries; tests hand in their own.
    """

    def __init__(
        self,
        gallery: Gallery,
        sender: Sender,
        sign: Callable[[Mapping[str, str], str], SignedObject],
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._gallery = gallery
        self._sender = sender
        self._sign = sign
        self._sleep = sleep

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
            return {"image_url": await self._upload(job.id, job.s3_config, image_format, data)}
        key = ids.new_image_key(image_format.extension)
        await self._gallery.save(key, data)
        return {"image_key": key}

    async def _upload(self, job_id: str, config: Mapping[str, str], image_format: ImageFormat, data: bytes) -> str:
        signed = self._sign(config, f"{job_id}.{image_format.extension}")
        headers = {"Content-Type": image_format.media_type}
        for attempt in range(_UPLOAD_ATTEMPTS):
            if attempt:
                await self._sleep(_UPLOAD_PAUSE_S)
            try:
                answer = await self._sender.send("PUT", signed.put_url, headers, data, _UPLOAD_TIMEOUT_S)
            except OutboundRefused as error:
                raise BucketFailed(f"s3Config.endpointUrl cannot be called: {error}") from None
            except OutboundFailed as error:
                problem = str(error)
                continue
            if answer.status == 200:
                return signed.get_url
            problem = _problem_in(answer)
            if answer.status < 500 and answer.status != 429:
                break
        logger.warning("job %s: the bucket of its client did not take the picture: %s", job_id, problem)
        raise BucketFailed(
            f"s3Config: the picture could not be stored in the bucket '{config['bucketName']}': {problem}"
        )


def _problem_in(answer: Answer) -> str:
    """The code of the refusal and what S3 calls it. No more: what else an answer holds is not for clients to read."""
    code = _ERROR_CODE.search(answer.start)
    return f"HTTP {answer.status}" + (f" {code.group(1).decode()}" if code else "")
