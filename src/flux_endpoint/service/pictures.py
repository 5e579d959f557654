"""Where the pictures of a job go: to this server, or to the bucket that its client named."""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from flux_endpoint.core.drafts import KEPT_LATENTS, read_header
from flux_endpoint.core.errors import InvalidRequest
from flux_endpoint.core.image_formats import IMAGE_FORMATS, format_of, new_image_key, new_latents_key
from flux_endpoint.core.job import Completed, Job
from flux_endpoint.images.protocol import ImageStore
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

    def __init__(self, claims: ClaimStore, store: PictureStore, images: ImageStore, uploads: Uploads) -> None:
        self._claims = claims
        self._store = store
        self._images = images
        self._uploads = uploads
        # Of files that were handed in, for the metrics.
        self.taken_bytes = 0

    async def deliver(
        self,
        job: Job,
        fields: Mapping[str, Any],
        worker_id: str,
        token: int | None,
        files: Sequence[bytes],
        said: Mapping[str, Any],
    ) -> None:
        """Take the pictures of a job. Kept here they end it; else they do when they are in their bucket.

        Args:
            job: as the worker got it.
            fields: its input; nothing for one of an endpoint with inputs of its own, which has one picture at most.
            worker_id: who has drawn it.
            token: see `ClaimStore.finish`.
            files: all of them, in order; behind the drafts of a job their latents.
            said: of the pictures, for the client; see `EncodedImage`.

        Raises:
            InvalidRequest: the bytes are no picture of a known format, or the job has another number of them.
            LeaseLost: the job is not held by this worker and token.
            UnknownJob: no such job.
            StoreUnavailable: it could not be kept.
        """
        asked, is_draft = fields.get("num_images", 1), bool(fields.get("stop_after"))
        pictures, latents = (files[:asked], files[asked:]) if is_draft else (files, ())
        image_format = format_of(files[0])
        if image_format is None or not all(map(image_format.is_in, pictures[1:])):
            raise InvalidRequest(f"the uploaded bytes are no picture of a known format ({', '.join(IMAGE_FORMATS)})")
        self.taken_bytes += sum(map(len, files))
        if len(pictures) != asked:
            raise InvalidRequest(f"the job has {asked} pictures, and the worker handed in {len(pictures)}")
        if is_draft and len(latents) != asked:
            raise InvalidRequest(f"the job has {asked} drafts, and the worker handed in the latents of {len(latents)}")
        kinds = [read_header(data).get("fingerprint", "") for data in latents]
        if job.bucket is not None:
            await self._uploads.take(job, worker_id, token, image_format, files, said)
            return
        # Known before a byte is kept: a token must not fill the disk with pictures of jobs that are not its own, and
        # what a killed process leaves behind must be found.
        new_keys = [new_image_key(image_format.extension) for _ in pictures] + [new_latents_key() for _ in latents]
        keys = await self._store.reserve_pictures(job.id, worker_id, token, new_keys)
        if keys is None:
            return
        for key, data in zip(keys, files, strict=True):
            await self._images.save(key, data)
        shown = keys[:asked]
        named: dict[str, Any] = {"image_key": shown[0]} if asked == 1 else {"image_keys": shown}
        if latents:
            named[KEPT_LATENTS] = [
                {"key": key, "sha256": hashlib.sha256(data).hexdigest(), "fingerprint": kind}
                for key, data, kind in zip(keys[asked:], latents, kinds, strict=True)
            ]
        await self._claims.finish(job.id, worker_id, token, Completed({**named, **said}, keys))
