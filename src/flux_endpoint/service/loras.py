"""LoRAs that requests name by where they are: fetched, looked at and kept before a job is made of the request."""

import asyncio
import json
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import quote

from flux_endpoint.core.errors import (
    CheckpointError,
    ImageGone,
    InvalidParameter,
    OutboundFailed,
    OutboundRefused,
    StoreUnavailable,
)
from flux_endpoint.core.lora import SentLora
from flux_endpoint.core.lora_places import ENDINGS, MAX_FETCHED_BYTES, HubFile, file_name_of, hub_file, told_name
from flux_endpoint.core.outbound import OutboundRules
from flux_endpoint.core.text import listing
from flux_endpoint.files.kept_loras import KeptLoras
from flux_endpoint.files.lora_outline import outline
from flux_endpoint.files.lora_scales import PEFT_FILE
from flux_endpoint.outbound.protocol import NO_HEADERS, Sender
from flux_endpoint.service.held_jobs import fields_of_held
from flux_endpoint.stores.jobs.protocol import ClaimStore

_LISTING_S: Final = 20.0
_FETCH_S: Final = 300.0
# What the hub tells of a repository with thousands of files.
_LISTING_BYTES: Final = 8 * 2**20
# The others wait: each may take the whole of the line.
_AT_ONCE: Final = 2
_COMMIT: Final = re.compile("[0-9a-f]{40}")
# The one that diffusers takes where there are several.
_USUAL_FILE: Final = "pytorch_lora_weights.safetensors"


@dataclass(frozen=True, slots=True)
class Hub:
    """The hub that repositories are fetched from.

    Attributes:
        url: where it is, without a slash at the end.
        token: of an account that may read them; None for what everybody may.
    """

    url: str = "https://huggingface.co"
    token: str | None = None

    @property
    def headers(self) -> Mapping[str, str]:
        """What tells it who asks."""
        return NO_HEADERS if self.token is None else {"Authorization": f"Bearer {self.token}"}


@dataclass(frozen=True, slots=True)
class _Located:
    """One file to fetch."""

    url: str
    name: str
    revision: str
    headers: Mapping[str, str]


class FetchedLoras:
    """Brings the files of LoRAs here.

    Args:
        kept: where to.
        sender: fetches them.
        outbound: which addresses may be called.
        hub: where repositories are.
        claims: tells who holds a job.
    """

    def __init__(self, kept: KeptLoras, sender: Sender, outbound: OutboundRules, hub: Hub, claims: ClaimStore) -> None:
        self._kept = kept
        self._sender = sender
        self._outbound = outbound
        self._hub = hub
        self._claims = claims
        self._places = asyncio.Semaphore(_AT_ONCE)
        self._running: dict[tuple[str, str], asyncio.Task[Path]] = {}

    async def fetch(self, lora: SentLora) -> None:
        """Fetch a LoRA that the operator allows, unless it is here.

        Raises:
            InvalidParameter: it cannot be had or applied, or has changed since it was first fetched.
            StoreUnavailable: it could not be kept.
        """
        try:
            await self._file_at(lora.path, lora.sha256)
        except _Changed as error:
            field = f"{lora.field.removesuffix('.path')}.sha256" if lora.sha256 else lora.field
            raise InvalidParameter(field, str(error)) from None
        except (CheckpointError, OutboundFailed, OutboundRefused) as error:
            raise InvalidParameter(lora.field, f"cannot be used: {error}") from None

    async def file_for(
        self, endpoint_ids: Collection[str], worker_id: str, job_id: str, token: int | None, sha256: str
    ) -> Path:
        """The file of a LoRA that a worker's job is drawn with, fetched once more where it has gone meanwhile.

        Args:
            endpoint_ids: endpoints the worker serves; the job is of one of them.
            worker_id: who asks.
            job_id: the claimed job.
            token: see `ClaimStore.finish`.
            sha256: of the file.

        Raises:
            LeaseLost: the job is not held by this worker and token.
            ImageGone: the job is drawn with no such LoRA, or it can no longer be had.
            UnknownJob: no such job.
            StoreUnavailable: it could not be kept.
        """
        fields = await fields_of_held(self._claims, endpoint_ids, worker_id, job_id, token)
        for lora in fields.get("loras", ()):
            if lora["sha256"] == sha256 and lora.get("is_fetched"):
                try:
                    return await self._file_at(lora["path"], sha256)
                except (CheckpointError, OutboundFailed, OutboundRefused, _Changed) as error:
                    raise ImageGone(f"the LoRA '{told_name(lora['path'])}' can no longer be had: {error}") from None
        raise ImageGone(f"Job {job_id} is drawn with no such LoRA")

    async def _file_at(self, place: str, sha256: str) -> Path:
        """The file at a place; whoever asks for one that is on its way waits for the same."""
        pin = self._kept.pin(place)
        wanted = sha256 or (pin.sha256 if pin else "")
        # A hash alone opens nothing: it must have been found at this very place.
        if pin is not None and wanted in pin.versions and (file := self._kept.file(wanted)) is not None:
            return file
        key = place, wanted
        task = self._running.get(key)
        if task is None:
            revision = pin.versions.get(wanted, "") if pin else ""
            task = self._running[key] = asyncio.create_task(self._bring(place, wanted, revision))
            task.add_done_callback(lambda done: (self._running.pop(key), done.cancelled() or done.exception()))
        # A client that leaves does not take the file from those that stay.
        return await asyncio.shield(task)

    async def _bring(self, place: str, wanted: str, revision: str) -> Path:
        async with self._places:
            located = await self._located(place, revision)
            if located.name == PEFT_FILE:
                raise CheckpointError(
                    f"{PEFT_FILE} is half of a folder of PEFT, whose other file says how strongly it acts; put both "
                    "into LORA_DIR"
                )
            try:
                with self._kept.draft(located.name) as draft:
                    self._check_address(located.url)
                    sha256 = await self._sender.save(located.url, draft, MAX_FETCHED_BYTES, _FETCH_S, located.headers)
                    if wanted not in ("", sha256):
                        raise _Changed(place, wanted, sha256)
                    await asyncio.to_thread(outline, draft)
                    file = await asyncio.to_thread(self._kept.keep, draft, sha256)
                    self._kept.note(place, sha256, located.revision)
                    return file
            except OSError as error:
                raise StoreUnavailable(f"a LoRA cannot be kept: {error}") from error

    def _check_address(self, url: str) -> None:
        try:
            self._outbound.check_literal("path", url)
        except InvalidParameter as error:
            raise OutboundRefused(error.problem) from None

    async def _located(self, place: str, revision: str) -> _Located:
        found = hub_file(place)
        if found is None:
            return _Located(place, file_name_of(place), "", NO_HEADERS)
        file = found.file
        if file is None or not revision:
            revision, files = await self._listed(found, revision or "main")
            file = file or _only_lora(found, files)
        url = f"{self._hub.url}/{found.repository}/resolve/{revision}/{quote(file)}"
        return _Located(url, file.rpartition("/")[2], revision, self._hub.headers)

    async def _listed(self, found: HubFile, revision: str) -> tuple[str, list[str]]:
        """The commit that a revision of a repository is, and its files."""
        url = f"{self._hub.url}/api/models/{found.repository}/revision/{revision}"
        try:
            told = json.loads(await self._sender.fetch(url, _LISTING_BYTES, _LISTING_S, self._hub.headers))
            commit, files = str(told["sha"]), [str(one["rfilename"]) for one in told["siblings"]]
        except OutboundFailed as error:
            raise OutboundFailed(f"the hub was asked for {found.repository}: {error}") from None
        except (ValueError, LookupError, TypeError) as error:
            raise OutboundFailed(f"the hub's answer about {found.repository} is not understood") from error
        if not _COMMIT.fullmatch(commit):
            raise OutboundFailed(f"the hub's answer about {found.repository} names no commit")
        return commit, files


class _Changed(Exception):
    """At a place is another file than the one that was asked for."""

    def __init__(self, place: str, wanted: str, found: str) -> None:
        super().__init__(
            f"is another file at '{told_name(place)}' now: its sha256 is {found}, and not {wanted}; ask for it by its "
            "sha256 if that is the one you want"
        )


def _only_lora(found: HubFile, files: Collection[str]) -> str:
    loras = [file for file in files if file.lower().endswith(ENDINGS)]
    if len(loras) == 1 or _USUAL_FILE in loras:
        return _USUAL_FILE if _USUAL_FILE in loras else loras[0]
    if not loras:
        raise CheckpointError(f"{found.repository} on the hub holds no file that ends in {' or '.join(ENDINGS)}")
    raise CheckpointError(
        f"{found.repository} on the hub holds {len(loras)} files; name one, such as "
        f"{listing([f'{found.repository}/{file}' for file in sorted(loras)], 5)}"
    )
