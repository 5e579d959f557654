"""What the rest of the project asks of the place where pictures are kept."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Final, Protocol

from flux_endpoint.core.bucket import Bucket
from flux_endpoint.core.image_formats import ImageFormat

# Buckets refuse signatures that are to live longer, but only when they are used; the client says nothing.
MAX_SIGNED_S: Final = 604_800


@dataclass(frozen=True, slots=True)
class StoredImage:
    """A picture that is there.

    Attributes:
        size_bytes: length of the file.
        saved_ms: when it was saved, milliseconds since 1970-01-01 UTC.
        etag: changes when the bytes change.
    """

    key: str
    image_format: ImageFormat
    size_bytes: int
    saved_ms: int
    etag: str


class ImageStore(Protocol):
    """Encoded pictures by unguessable key (`image_formats.new_image_key`). All methods are safe to call concurrently.

    The latents of drafts are kept here too (`new_latents_key`): saved, read, deleted and swept like pictures, but never
    described, so that no client is shown them.

    Every method may raise `StoreUnavailable`: the disk or bucket did not answer or is full; `ImagesRefused` when it has
    said that there is no such bucket, or that it is not for us.

    Attributes:
        problem: why no picture can be kept, as it said to whoever last wrote; None while nothing is known against it.
    """

    problem: str | None

    async def save(self, key: str, data: bytes) -> None:
        """Keep the bytes under the key; there for every reader on return, never half-visible.

        A folder leaves the flush to the disk to the operating system: a killed process loses nothing, a power cut may.
        """
        ...

    async def stat(self, key: str) -> StoredImage:
        """Describe a picture.

        Raises:
            ImageGone: there is none of that key.
        """
        ...

    def read(self, key: str) -> AsyncIterator[bytes]:
        """The bytes of a picture, in pieces.

        Raises:
            ImageGone: there is none of that key.
        """
        ...

    async def sign(self, key: str, seconds: int) -> str:
        """A URL at the bucket that shows a picture to whoever has it, without any key.

        Args:
            key: of the picture; whether there is one is not asked.
            seconds: how long it works, at most `MAX_SIGNED_S`.

        Raises:
            SettingsError: the place is no bucket, or its credentials cannot sign.
            ValueError: no such URL may live for so long.
        """
        ...

    async def delete(self, key: str) -> None:
        """Delete a picture; nothing when there is none of that key."""
        ...

    async def check(self) -> None:
        """Write a small object, read it back and delete it.

        Raises:
            StoreUnavailable: one of these failed; the text says why in one line.
        """
        ...

    async def sweep(self, saved_before_ms: int, sources_before_ms: int) -> int:
        """Delete every picture saved before a time, and before another time those that clients sent; says how many."""
        ...


@dataclass(frozen=True, slots=True)
class DecodedPicture:
    """A client's picture as it is kept.

    Attributes:
        data: the file; see `SourcePicture`.
        width: pixels.
        height: pixels.
    """

    data: bytes
    width: int
    height: int


class Decode(Protocol):
    """Makes what is kept of files that clients send. Takes long, and trusts nothing."""

    def __call__(self, sent: str | bytes, mask_of: tuple[int, int] | None = None) -> DecodedPicture | str:
        """A picture upright, in 8 bits a channel.

        Args:
            sent: the file, or a `data:` URL of it in base64.
            mask_of: for a mask, the width and height of the picture that it is for; it is made one of that size.

        Returns:
            The picture, or what is wrong with it, to be read after its name.
        """
        ...


@dataclass(frozen=True, slots=True)
class SignedObject:
    """One object of a client's bucket.

    Attributes:
        put_url: takes the bytes, for an hour.
        get_url: shows them to whoever has it, for 604,800 seconds.
    """

    put_url: str
    get_url: str


class Sign(Protocol):
    """Makes URLs for objects of clients' buckets."""

    def __call__(self, bucket: Bucket, name: str, region: str | None = None) -> SignedObject:
        """Sign the URLs with which an object is written and read. Nothing is sent.

        Args:
            bucket: of the client.
            name: of the object, after the prefix.
            region: what to sign for, when that is known better than from the bucket.

        Raises:
            BucketFailed: no URL can be made of this.
        """
        ...
