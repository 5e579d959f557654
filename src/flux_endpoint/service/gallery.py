"""Finished pictures as clients see them: gone after the retention time."""

from collections.abc import AsyncIterator

from flux_endpoint.core.clock import Clock
from flux_endpoint.core.errors import ImageGone
from flux_endpoint.images.protocol import ImageStore, StoredImage

MS_PER_DAY = 86_400_000


class Gallery:
    """Saves, shows and forgets pictures.

    Args:
        images: where the bytes are.
        clock: decides what has expired.
        retention_days: how long a picture can be fetched.
    """

    def __init__(self, images: ImageStore, clock: Clock, retention_days: float = 7) -> None:
        self._images = images
        self._clock = clock
        self._retention_ms = round(retention_days * MS_PER_DAY)

    async def save(self, key: str, data: bytes) -> None:
        """Keep a picture; durable on return."""
        await self._images.save(key, data)

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

    async def sweep(self) -> int:
        """Delete the pictures that have expired. Returns how many."""
        return await self._images.sweep(self._clock.now_ms() - self._retention_ms)
