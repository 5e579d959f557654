"""Puts a picture into the bucket that its client named."""

import asyncio
import logging
import re
from collections.abc import Awaitable, Callable
from typing import Final

from flux_endpoint.core.bucket import REGION_PATTERN, Bucket
from flux_endpoint.core.errors import BucketFailed, OutboundFailed, OutboundRefused
from flux_endpoint.core.image_formats import ImageFormat
from flux_endpoint.images.protocol import Sign, SignedObject
from flux_endpoint.outbound.protocol import Answer, Sender

logger = logging.getLogger(__name__)

# The largest picture at 3 Mbit/s.
_TIMEOUT_S: Final = 20.0
_PAUSES_S: Final = (1.0, 4.0)
_ERROR_CODE: Final = re.compile(rb"<Code>([A-Za-z0-9]{1,60})</Code>")
# An S3 service names the right region in the body of its refusal, in a header, or in both.
_REGION: Final = re.compile(rf"<Region>({REGION_PATTERN})</Region>".encode())
_REGION_HEADER: Final = "x-amz-bucket-region"
_TOO_MANY_REQUESTS: Final = 429


class Buckets:
    """The buckets of clients.

    Args:
        sender: the way out.
        sign: makes the URLs of an object.
        sleep: waits between two tries; tests hand in their own.
    """

    def __init__(self, sender: Sender, sign: Sign, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep) -> None:
        self._sender = sender
        self._sign = sign
        self._sleep = sleep

    async def put(self, bucket: Bucket, name: str, image_format: ImageFormat, data: bytes) -> str:
        """Store a picture; tries again what may pass, for about a minute.

        Args:
            bucket: of the client.
            name: of the object, without its extension and after the prefix.
            image_format: of the data.
            data: the file.

        Returns:
            A URL that shows it.

        Raises:
            BucketFailed: the bucket did not take it; the text says why, without anything secret.
        """
        name = f"{name}.{image_format.extension}"
        signed = self._sign(bucket, name)
        answer = await self._send(bucket, signed, image_format, data)
        region = None if isinstance(answer, str) or answer.status == 200 else _region_in(answer)
        if region is not None:
            # It knows better than we do where it is.
            signed = self._sign(bucket, name, region)
            answer = await self._send(bucket, signed, image_format, data)
        if not isinstance(answer, str) and answer.status == 200:
            return signed.get_url
        problem = answer if isinstance(answer, str) else _problem_in(answer)
        logger.warning("%s: the bucket of its client did not take the picture: %s", name, problem)
        raise BucketFailed(f"{bucket.field}: the picture could not be stored in the bucket '{bucket.name}': {problem}")

    async def _send(self, bucket: Bucket, signed: SignedObject, image_format: ImageFormat, data: bytes) -> Answer | str:
        """The last answer, or why there was none."""
        headers = {"Content-Type": image_format.media_type}
        pauses_s = iter(_PAUSES_S)
        while True:
            answer: Answer | str
            try:
                answer = await self._sender.send("PUT", signed.put_url, headers, data, _TIMEOUT_S)
            except OutboundRefused as error:
                raise BucketFailed(f"{bucket.url_field} cannot be called: {error}") from None
            except OutboundFailed as error:
                answer = str(error)
            if not isinstance(answer, str) and answer.status < 500 and answer.status != _TOO_MANY_REQUESTS:
                return answer
            pause_s = next(pauses_s, None)
            if pause_s is None:
                return answer
            await self._sleep(pause_s)


def _region_in(answer: Answer) -> str | None:
    """Where the bucket is, if the refusal tells; a client's signature is then made for that."""
    if (found := _REGION.search(answer.start)) is not None:
        return found.group(1).decode()
    named = answer.headers.get(_REGION_HEADER, "")
    return named if re.fullmatch(REGION_PATTERN, named) else None


def _problem_in(answer: Answer) -> str:
    """The code of the refusal and what S3 calls it. No more: what else an answer holds is not for clients to read."""
    code = _ERROR_CODE.search(answer.start)
    return f"HTTP {answer.status}" + (f" {code.group(1).decode()}" if code else "")
