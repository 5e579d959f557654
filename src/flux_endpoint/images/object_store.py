"""Pictures in a local folder or a bucket, through one object-storage client."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote

import obstore
from obstore.exceptions import BaseError, PermissionDeniedError, UnauthenticatedError
from obstore.store import AzureStore, GCSStore, LocalStore, MemoryStore, ObjectStore, S3Store

from flux_endpoint.core.errors import ImageGone, ImagesRefused, SettingsError, StoreUnavailable
from flux_endpoint.core.image_formats import (
    DEFAULT_FORMAT,
    format_of_image_key,
    is_kept_key,
    is_source_key,
    new_image_key,
)
from flux_endpoint.core.outage import Outage
from flux_endpoint.images.protocol import MAX_SIGNED_S, StoredImage

if TYPE_CHECKING:
    # Exists for type checkers only.
    from obstore.store import ClientConfig, RetryConfig

_FORMS: Final = "a folder, file:///folder, s3://bucket/prefix, gs://bucket/prefix, az://container/prefix or memory://"
# The client's own default is to try for three minutes; a worker waits for this answer.
_RETRY: "Final[RetryConfig]" = {"max_retries": 3, "retry_timeout": timedelta(seconds=20)}
# Of one try. By its own choice the client waits for so long that there is no second one.
_CLIENT: "Final[ClientConfig]" = {"timeout": timedelta(seconds=10), "connect_timeout": timedelta(seconds=3)}
# Deleting waits for the network, not for this machine.
_DELETES_AT_ONCE: Final = 32
# As S3 and those like it call it.
_NO_BUCKET: Final = "NoSuchBucket"
_CHUNK_BYTES: Final = 256 * 1024
_OWNER_ONLY: Final = 0o700
_NO_PICTURE: Final = "There is no such picture"


def open_image_store(url: str) -> "ObjectImageStore":
    """Open the folder or bucket that a URL names; nothing is asked of a bucket yet.

    Args:
        url: a folder (made when missing) as a path or `file://` URL, `s3://bucket/prefix` (credentials and endpoint
            from the AWS_* variables), `gs://bucket/prefix` (GOOGLE_*), `az://container/prefix` (AZURE_*), or
            `memory://`, which forgets everything at the end.

    Raises:
        SettingsError: the URL has another form, or the variables it needs are missing.
    """
    scheme, separator, _ = url.partition("://")
    try:
        if url.strip() and not separator and ":/" not in url:
            return _open_folder(Path(url))
        match scheme:
            case "file" if url.startswith("file:///"):
                return _open_folder(Path(unquote(url.removeprefix("file://"))))
            case "s3":
                # A plain-text endpoint is used only when AWS_ENDPOINT_URL names one.
                s3 = S3Store.from_url(url, client_options={**_CLIENT, "allow_http": True}, retry_config=_RETRY)
                return ObjectImageStore(s3)
            case "gs":
                return ObjectImageStore(GCSStore.from_url(url, client_options=_CLIENT, retry_config=_RETRY))
            case "az":
                return ObjectImageStore(AzureStore.from_url(url, client_options=_CLIENT, retry_config=_RETRY))
            case "memory":
                return ObjectImageStore(MemoryStore())
    except (BaseError, OSError, ValueError) as error:
        raise SettingsError(f"IMAGE_STORE_URL cannot be opened ({_first_line(error)}); use {_FORMS}") from error
    raise SettingsError(f"IMAGE_STORE_URL has a form that is not supported; use {_FORMS}")


def _open_folder(folder: Path) -> "ObjectImageStore":
    # One that is there may be open to others on purpose.
    folder.mkdir(_OWNER_ONLY, parents=True, exist_ok=True)
    return ObjectImageStore(LocalStore(folder.absolute()))


class ObjectImageStore:
    """Implements `ImageStore`. Open it with `open_image_store`.

    Args:
        store: what the client calls a store: a place plus a prefix.
    """

    def __init__(self, store: ObjectStore) -> None:
        self._store = store
        self._outage = Outage("the image store")
        self.problem: str | None = None

    async def save(self, key: str, data: bytes) -> None:
        """See `ImageStore.save`. A file gets its name only when it is complete."""
        if not is_kept_key(key):
            raise ImageGone(_NO_PICTURE)
        with self._asking("saving", is_writing=True):
            # In one piece, whatever its size: a bucket shows it whole or not at all.
            await obstore.put_async(self._store, key, data, use_multipart=False)

    async def stat(self, key: str) -> StoredImage:
        """See `ImageStore.stat`."""
        image_format = format_of_image_key(key)
        if image_format is None:
            raise ImageGone(_NO_PICTURE)
        with self._asking("reading"):
            found = await obstore.head_async(self._store, key)
        return StoredImage(
            key=key,
            image_format=image_format,
            size_bytes=found["size"],
            saved_ms=_to_ms(found["last_modified"]),
            etag=(found["e_tag"] or found["last_modified"].isoformat()).strip('"'),
        )

    async def read(self, key: str) -> AsyncIterator[bytes]:
        """See `ImageStore.read`. Errors come with the first piece."""
        if not is_kept_key(key):
            raise ImageGone(_NO_PICTURE)
        with self._asking("reading"):
            found = await obstore.get_async(self._store, key)
            async for piece in found.stream(min_chunk_size=_CHUNK_BYTES):
                yield bytes(piece)

    async def sign(self, key: str, seconds: int) -> str:
        """See `ImageStore.sign`."""
        if not is_kept_key(key):
            raise ImageGone(_NO_PICTURE)
        if not 0 < seconds <= MAX_SIGNED_S:
            raise ValueError(f"A signature lives for 1 to {MAX_SIGNED_S} seconds, not {seconds}")
        if not isinstance(self._store, S3Store | GCSStore | AzureStore):
            raise SettingsError("IMAGE_LINKS=presigned needs a bucket in IMAGE_STORE_URL: s3://, gs:// or az://")
        try:
            return await obstore.sign_async(self._store, "GET", key, timedelta(seconds=seconds))
        except BaseError as error:
            raise SettingsError(f"IMAGE_LINKS=presigned: nothing can be signed ({_first_line(error)})") from error

    async def delete(self, key: str) -> None:
        """See `ImageStore.delete`."""
        if not is_kept_key(key):
            raise ImageGone(_NO_PICTURE)
        with self._asking(None):
            await self._delete(key)

    async def check(self) -> None:
        """See `ImageStore.check`. The object is named as a picture: if it stays behind, a sweep finds it."""
        key = new_image_key(DEFAULT_FORMAT.extension)
        written = key.encode()
        # No outage to be logged: whoever checks tells the reason.
        with self._asking(None, is_writing=True):
            await obstore.put_async(self._store, key, written, use_multipart=False)
            found = await obstore.get_async(self._store, key)
            read = bytes(await found.bytes_async())
            await self._delete(key)
            if read != written:
                raise StoreUnavailable("The image store does not give back what it was given")

    async def sweep(self, saved_before_ms: int, sources_before_ms: int) -> int:
        """See `ImageStore.sweep`. Files that are no pictures of ours are left alone: a bucket may be shared."""
        deleted = 0
        with self._asking("sweeping"):
            async for found in obstore.list(self._store, chunk_size=_DELETES_AT_ONCE):
                old = []
                for each in found:
                    key = each["path"]
                    before_ms = sources_before_ms if is_source_key(key) else saved_before_ms
                    if is_kept_key(key) and _to_ms(each["last_modified"]) < before_ms:
                        old.append(key)
                deleted += sum(await asyncio.gather(*(self._delete(key) for key in old)))
        return deleted

    @contextmanager
    def _asking(self, what: str | None, *, is_writing: bool = False) -> Iterator[None]:
        """Around one question: turns errors into ours; `what` is its kind in the log of outages, None for none."""
        try:
            yield
        except (BaseError, OSError) as error:
            ours = _translated(error, is_writing=is_writing)
            if is_writing and isinstance(ours, ImagesRefused):
                self.problem = str(ours)
            if what is not None and isinstance(ours, StoreUnavailable):
                self._outage.failed(what, ours)
            elif what is not None:
                self._outage.answered(what)
            raise ours from error
        if is_writing:
            self.problem = None
        if what is not None and self._outage.is_on:
            self._outage.answered(what)

    async def _delete(self, key: str) -> bool:
        try:
            await obstore.delete_async(self._store, key)
        except FileNotFoundError:
            # Another gateway sweeps the same folder.
            return False
        return True


def _to_ms(moment: datetime) -> int:
    return round(moment.timestamp() * 1_000)


def _translated(error: Exception, *, is_writing: bool) -> ImageGone | StoreUnavailable:
    if isinstance(error, FileNotFoundError):
        # A bucket that is not there is told as a file that is not there; what is written cannot lack.
        if is_writing or _NO_BUCKET in str(error):
            return ImagesRefused("the image store has no such bucket or folder")
        return ImageGone("The picture is not here: it never was, or its retention has ended")
    if isinstance(error, PermissionDeniedError | UnauthenticatedError | PermissionError):
        return ImagesRefused("the image store refuses access: check its keys and what they may do")
    return StoreUnavailable(f"The image store did not answer: {_first_line(error)}")


def _first_line(error: Exception) -> str:
    # The client appends a dump of its internals.
    return str(error).partition("\n")[0]
