"""Pictures that clients send to draw from: fetched, decoded and kept before a job is made of the request."""

import asyncio
import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Final, TypeVar
from urllib.parse import urlsplit

from anyio import BrokenWorkerProcess, fail_after, to_process

from flux_endpoint.core.batch import BatchRequest
from flux_endpoint.core.endpoint import EndpointSpec
from flux_endpoint.core.errors import (
    ImageGone,
    InvalidParameter,
    InvalidRequest,
    OutboundFailed,
    OutboundRefused,
)
from flux_endpoint.core.image_formats import is_image_key, new_source_key
from flux_endpoint.core.outbound import OutboundRules
from flux_endpoint.core.source_picture import MAX_SOURCE_BYTES, PICTURES, SentFiles, SentPicture, SourcePicture
from flux_endpoint.core.submission import Submission
from flux_endpoint.images.protocol import Decode, DecodedPicture
from flux_endpoint.outbound.protocol import Sender
from flux_endpoint.service.held_jobs import fields_of_held
from flux_endpoint.service.images import ImageService
from flux_endpoint.service.loras import FetchedLoras
from flux_endpoint.stores.jobs.protocol import ClaimStore

Asked = TypeVar("Asked", Submission, BatchRequest)
# The pictures of one call by what was sent, and for masks the size of what they are for.
_Known = dict[tuple[str, tuple[int, int] | None], SourcePicture]

_FETCH_S: Final = 20.0
_DECODE_S: Final = 30.0
# Each takes a quarter of a GB for the largest of files; the others wait.
_AT_ONCE: Final = 2
# Of one call: a batch would fetch for hours.
_MAX_PICTURES: Final = 64


class Sources:
    """Puts the pictures that were sent into requests.

    Args:
        images: where they are kept.
        sender: fetches those that are elsewhere.
        outbound: which places clients may name.
        decode: makes what is kept of a file; a function of some module, called in another process.
        claims: tells who holds a job.
        loras: fetches LoRAs.
    """

    def __init__(
        self,
        images: ImageService,
        sender: Sender,
        outbound: OutboundRules,
        decode: Decode,
        claims: ClaimStore,
        loras: FetchedLoras,
    ) -> None:
        self._images = images
        self._sender = sender
        self._outbound = outbound
        self._decode = decode
        self._claims = claims
        self.loras = loras
        self._places = asyncio.Semaphore(_AT_ONCE)

    async def settled(
        self, spec: EndpointSpec, asked: Sequence[Asked], *, keeps: bool = True, numbered: bool = False
    ) -> list[Asked]:
        """The requests of one call, with their pictures and LoRAs, and the price that follows from these.

        A picture or a LoRA that several requests name in the same way is fetched once.

        Args:
            spec: where to.
            asked: accepted requests.
            keeps: whether the files will be needed; else pictures are only looked at, and LoRAs left where they are.
            numbered: whether an error tells which of the requests is wrong.

        Raises:
            InvalidParameter: a picture or a LoRA cannot be had, or is none; its field is the one that the client sent.
            InvalidRequest: there are too many.
            StoreUnavailable: a file could not be kept.
        """
        known: _Known = {}
        settled = []
        for number, one in enumerate(asked):
            try:
                settled.append(one if one.sent is None else await self._settled(spec, one, one.sent, known, keeps))
            except InvalidRequest as error:
                if numbered:
                    raise InvalidRequest(f"request {number} (counted from 0): {error}") from None
                raise
        return settled

    async def read_for(
        self, endpoint_ids: Collection[str], worker_id: str, job_id: str, token: int | None, sha256: str
    ) -> bytes:
        """The file of a picture, or the latents of a draft, that a worker's job is drawn from.

        Args:
            endpoint_ids: endpoints the worker serves; the job is of one of them.
            worker_id: who asks.
            job_id: the claimed job.
            token: see `ClaimStore.finish`.
            sha256: of the file.

        Raises:
            LeaseLost: the job is not held by this worker and token.
            ImageGone: the job is drawn from no such picture, or it is here no longer.
            UnknownJob: no such job.
        """
        fields = await fields_of_held(self._claims, endpoint_ids, worker_id, job_id, token)
        for picture in map(fields.get, (*PICTURES, "draft")):
            if isinstance(picture, Mapping) and picture.get("sha256") == sha256:
                return await self._images.read_whole(str(picture.get("key")))
        raise ImageGone(f"Job {job_id} is drawn from no such picture")

    async def _settled(self, spec: EndpointSpec, asked: Asked, sent: SentFiles, known: _Known, keeps: bool) -> Asked:
        pictures: dict[str, SourcePicture] = {}
        # A mask after the picture that it is for.
        for name, one in sent.pictures.items():
            mask_of = (pictures["image"].width, pictures["image"].height) if name == "mask" else None
            if (one.where, mask_of) not in known:
                if len(known) == _MAX_PICTURES:
                    raise InvalidRequest(f"Invalid request: more than {_MAX_PICTURES} pictures to draw from at once")
                known[one.where, mask_of] = await self._kept(one, mask_of, keeps)
            pictures[name] = known[one.where, mask_of]
        if keeps:
            for lora in sent.loras:
                await self.loras.fetch(lora)
        fields = {one.field: pictures[name] for name, one in sent.pictures.items()}
        accepted = spec.accept({**sent.fields, **fields}, any_size=sent.any_size)
        if keeps and accepted.sent is not None:
            # The first of them went again while the last one came.
            problem = "names one of several LoRAs that do not fit here together (setting LORA_KEPT_MB)"
            raise InvalidParameter(sent.loras[0].field, problem)
        return replace(asked, input=accepted.input, cost_usd=accepted.cost_usd, sent=None)

    async def _kept(self, one: SentPicture, mask_of: tuple[int, int] | None, keeps: bool) -> SourcePicture:
        decoded = await self._decoded(one.field, await self._file_of(one), mask_of)
        key, digest = new_source_key(), hashlib.sha256(decoded.data).hexdigest()
        if keeps:
            await self._images.save(key, decoded.data)
        return SourcePicture(key, digest, decoded.width, decoded.height)

    async def _file_of(self, one: SentPicture) -> str | bytes:
        """The file, or a `data:` URL of it."""
        if one.where.startswith("data:"):
            return one.where
        if (own := await self._own(one.where)) is not None:
            return own
        self._outbound.check_literal(one.field, one.where)
        try:
            return await self._sender.fetch(one.where, MAX_SOURCE_BYTES, _FETCH_S)
        except (OutboundFailed, OutboundRefused) as error:
            raise InvalidParameter(one.field, f"cannot be fetched: {error}") from None

    async def _own(self, url: str) -> bytes | None:
        """The picture of this server that a link shows, whatever the server is called; None for none.

        Nobody else has one of that name: whoever knows it may see it.
        """
        key = urlsplit(url).path.rpartition("/images/")[2]
        if not is_image_key(key):
            return None
        try:
            await self._images.stat(key)
            return await self._images.read_whole(key)
        except ImageGone:
            return None

    async def _decoded(self, field: str, file: str | bytes, mask_of: tuple[int, int] | None) -> DecodedPicture:
        """A file decoded in a process of its own, so that none can stop this one."""
        try:
            async with self._places:
                with fail_after(_DECODE_S):
                    made = await to_process.run_sync(self._decode, file, mask_of, cancellable=True)
        except TimeoutError:
            raise InvalidParameter(field, f"took more than {_DECODE_S:g} s to be decoded") from None
        except BrokenWorkerProcess:
            raise InvalidParameter(field, "takes more memory to be decoded than there is") from None
        if isinstance(made, str):
            raise InvalidParameter(field, made)
        return made
