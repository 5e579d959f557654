"""Finished pictures as clients see them: gone after the retention time."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Final

from flux_endpoint.core.clock import Clock
from flux_endpoint.core.errors import ImageGone, StoreUnavailable
from flux_endpoint.core.image_formats import DEFAULT_FORMAT, new_image_key
from flux_endpoint.core.source_picture import SOURCE_LIFE_MS
from flux_endpoint.images.protocol import ImageStore, StoredImage

MS_PER_DAY = 86_400_000
# Signed anew for whoever asks again.
_SIGNED_S: Final = 3_600
# How long after its repair a refusing image store is noticed to be well.
_CHECK_PERIOD_S: Final = 10.0


class ImageService:
    """Saves, shows and forgets pictures.

    Attributes:
        signs: whether clients may be sent to the bucket.

    Args:
        images: where the bytes are.
        clock: decides what has expired.
        retention_days: how long a picture can be fetched.
        signs: whether clients may be sent to the bucket.
        sleep: waits between two checks; tests hand in their own.
    """

    def __init__(
        self,
        images: ImageStore,
        clock: Clock,
        retention_days: float = 7,
        signs: bool = False,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._images = images
        self._clock = clock
        self._retention_ms = round(retention_days * MS_PER_DAY)
        self.signs = signs
        self._sleep = sleep

    @property
    def problem(self) -> str | None:
        """Why no picture can be kept; None while nothing is known against it."""
        return self._images.problem

    async def save(self, key: str, data: bytes) -> None:
        """Keep a picture; durable on return.

        Raises:
            ImagesRefused: there is no such bucket, or we may not use it.
            StoreUnavailable: the image store did not answer, or is full.
        """
        await self._images.save(key, data)

    async def delete(self, key: str) -> None:
        """Delete a picture, if it is there."""
        await self._images.delete(key)

    async def check(self) -> None:
        """Write a small object, read it back and delete it.

        Raises:
            StoreUnavailable: one of these failed; the text says why in one line.
        """
        await self._images.check()

    async def recheck(self) -> None:
        """Until cancelled, find out when an image store that refused is well again; else nobody may ask it."""
        while True:
            await self._sleep(_CHECK_PERIOD_S)
            if self._images.problem is not None:
                with contextlib.suppress(StoreUnavailable):
                    await self.check()

    async def stat(self, key: str) -> tuple[StoredImage, int]:
        """Describe a picture that can still be fetched.

        Returns:
            The picture, and the milliseconds it has left (at least 1).

        Raises:
            ImageGone: it was never here, or has expired.
        """
        image = await self._images.stat(key)
        left_ms = image.saved_ms + self._retention_ms - self._clock.now_ms()
        if left_ms <= 0:
            days = self._retention_ms / MS_PER_DAY
            raise ImageGone(f"image expired: pictures are kept for {days:g} days")
        return image, left_ms

    def read(self, key: str) -> AsyncIterator[bytes]:
        """The bytes of a picture, in pieces.

        Raises:
            ImageGone: there is none of that key.
        """
        return self._images.read(key)

    async def read_whole(self, key: str) -> bytes:
        """The bytes of a picture; else as `read`."""
        return b"".join([piece async for piece in self._images.read(key)])

    async def sign(self, key: str) -> str:
        """A URL at the bucket for a picture that can still be fetched; it works for an hour at most.

        Raises:
            ImageGone: it was never here, or has expired.
        """
        _, left_ms = await self.stat(key)
        return await self._images.sign(key, max(1, min(_SIGNED_S, left_ms // 1_000)))

    async def sign_any(self) -> str:
        """A URL as `sign` makes them, for no picture.

        Raises:
            SettingsError: the place is no bucket, or its credentials cannot sign.
        """
        return await self._images.sign(new_image_key(DEFAULT_FORMAT.extension), 1)

    async def sweep(self) -> int:
        """Delete the pictures that have expired. Returns how many."""
        now_ms = self._clock.now_ms()
        # Whatever clients may see of them: a job that still waits needs those that were sent with it.
        return await self._images.sweep(now_ms - self._retention_ms, now_ms - max(self._retention_ms, SOURCE_LIFE_MS))
