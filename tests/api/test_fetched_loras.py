"""LoRAs by hub id and by URL: fetched, checked and pinned before anything is queued, and handed to the job's worker."""

import json
from collections.abc import AsyncIterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import httpx
import pytest

from flux_endpoint.core.catalog import FLUX_DEV
from flux_endpoint.core.endpoint import FluxEndpoint
from flux_endpoint.core.lora_places import parse_lora_sources
from flux_endpoint.files.kept_loras import KeptLoras
from flux_endpoint.files.lora_shelf import FolderShelf
from tests.api.conftest import DEV, WORKER_TOKEN, FakeSender, Gateway, HandWorker, open_gateway
from tests.unit.test_lora_shelf import MODULE, PAIR, write

pytestmark = pytest.mark.anyio

HUB = "https://huggingface.co"
URL = "https://files.example/film.safetensors?token=geheim"
ONE, TWO = "1" * 40, "2" * 40


def lora(folder: Path, made: str = "first") -> bytes:
    """A file that can be applied, and is like no other."""
    return write(folder / "made" / f"{made}.safetensors", PAIR, {}, made=made).read_bytes()


def hash_of(data: bytes) -> str:
    return sha256(data).hexdigest()


class FakeHub:
    """One repository of the hub, as its HTTP API tells of it."""

    def __init__(self, sender: FakeSender, repository: str = "owner/film") -> None:
        self._sender = sender
        self._repository = repository

    def commit(self, commit: str, **files: bytes) -> None:
        """The newest state of the repository; older ones can still be fetched."""
        listed = [{"rfilename": name} for name in ("README.md", *files)]
        told = json.dumps({"id": self._repository, "sha": commit, "siblings": listed}).encode()
        for revision in ("main", commit):
            self._sender.files[f"{HUB}/api/models/{self._repository}/revision/{revision}"] = told
        for name, data in files.items():
            self._sender.files[f"{HUB}/{self._repository}/resolve/{commit}/{name}"] = data


@pytest.fixture
def sender() -> FakeSender:
    return FakeSender()


@pytest.fixture
def hub(sender: FakeSender) -> FakeHub:
    return FakeHub(sender)


@pytest.fixture
async def gateway(tmp_path: Path, sender: FakeSender, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Gateway]:
    for name in ("HF_TOKEN", "HF_ENDPOINT"):
        monkeypatch.delenv(name, raising=False)
    kept, sources = KeptLoras(tmp_path / "loras", 10**9), parse_lora_sources("owner/*, *.example")
    shelf = FolderShelf((), None, kept, sources)
    async with open_gateway(tmp_path, sender, {FLUX_DEV.endpoint_id: FluxEndpoint(FLUX_DEV, shelf=shelf)}) as opened:
        yield opened


async def ask(gateway: Gateway, *loras: dict[str, Any], **fields: Any) -> httpx.Response:
    asked = {"prompt": "a lake", **({"loras": list(loras)} if loras else {}), **fields}
    return await gateway.post(f"{DEV}/run", {"input": asked})


async def problem(gateway: Gateway, *loras: dict[str, Any], **fields: Any) -> str:
    """Why a request is refused; nothing is queued."""
    reply = await ask(gateway, *loras, **fields)
    assert reply.status_code == 400, reply.text
    assert (await gateway.get(f"{DEV}/health")).json()["jobs"]["inQueue"] == 0
    return reply.json()["error"].removeprefix("Invalid parameter: ")


async def taken(gateway: Gateway, worker: HandWorker, *loras: dict[str, Any], **fields: Any) -> dict[str, Any]:
    reply = await ask(gateway, *loras, **fields)
    assert reply.status_code == 200, reply.text
    job = await worker.take()
    assert job is not None
    return job


async def file_for(worker: HandWorker, job: dict[str, Any], sha256: str, token: int | None = None) -> httpx.Response:
    query = {"claimToken": job["claimToken"] if token is None else token, "sha256": sha256}
    return await worker.client.get(f"{DEV}/job-lora/{worker.id}/{job['id']}", params=query, headers=worker.headers)


def forget(folder: Path) -> None:
    """As when others were used since, and there was no room for these."""
    for file in (folder / "loras").glob("*.safetensors"):
        file.unlink()


@pytest.mark.parametrize("path", ["owner/film", "owner/film/film.safetensors", URL])
async def test_a_lora_is_fetched_once_and_reaches_the_worker(gateway, worker, sender, hub, tmp_path, path):
    data = sender.files[URL] = lora(tmp_path)
    hub.commit(ONE, **{"film.safetensors": data})
    job = await taken(gateway, worker, {"path": path, "scale": 0.5})
    assert job["input"]["loras"] == [{"path": path, "scale": 0.5, "sha256": hash_of(data), "is_fetched": True}]
    reply = await file_for(worker, job, hash_of(data))
    assert (reply.status_code, reply.content) == (200, data)
    fetched = list(sender.fetched)
    again = await taken(gateway, worker, {"path": path})
    assert again["input"]["loras"][0]["sha256"] == hash_of(data)
    assert sender.fetched == fetched


async def test_a_worker_gets_the_loras_of_jobs_that_it_holds_only(gateway, worker, sender, tmp_path):
    data = sender.files[URL] = lora(tmp_path)
    job = await taken(gateway, worker, {"path": URL})
    digest = hash_of(data)
    assert (await file_for(worker, job, "0" * 64)).status_code == 404
    assert (await file_for(worker, job, digest, token=job["claimToken"] + 1)).status_code == 409
    assert (await file_for(HandWorker(gateway.client, "worker-2"), job, digest)).status_code == 409
    other = await taken(gateway, worker)
    assert (await file_for(worker, other, digest)).status_code == 404
    worker.headers = {"Authorization": f"not {WORKER_TOKEN}"}
    assert (await file_for(worker, job, digest)).status_code == 401


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("someone/film", "there is no LoRA 'someone/film' here; there are none, and this server does not fetch "),
        ("https://elsewhere.test/film.safetensors", "this server does not fetch LoRAs from elsewhere.test: "),
        ("https://files.example.elsewhere.test/a", "does not fetch LoRAs from files.example.elsewhere.test: "),
        ("http://files.example/film", "'http://files.example/film' must start with https://, without user"),
        ("https://a:geheim@files.example/film", "'https://files.example/film' must start with https://, without"),
        ("https://169.254.169.254/latest", "this server does not fetch LoRAs from 169.254.169.254: "),
    ],
)
async def test_what_the_operator_does_not_allow_is_not_fetched(gateway, sender, path, text):
    told = await problem(gateway, {"path": path})
    assert told.startswith("loras[0].path cannot be used: ")
    assert text in told
    assert "start with" in told or "setting FLUX_ENDPOINT_LORA_SOURCES allows owner/*, *.example" in told
    assert sender.fetched == []
    assert "geheim" not in told


@pytest.mark.parametrize(
    ("files", "path", "text"),
    [
        ({}, "owner/film", "owner/film on the hub holds no file that ends in .safetensors or .sft"),
        (
            {"a.safetensors": b"", "b.safetensors": b""},
            "owner/film",
            "owner/film on the hub holds 2 files; name one, such as owner/film/a.safetensors, owner/film/b.safetensors",
        ),
        ({"adapter_model.safetensors": b""}, "owner/film", "is half of a folder of PEFT"),
        ({"film.safetensors": b"<html>"}, "owner/film", "film.safetensors"),
        ({}, "owner/film/film.safetensors", "the answer is HTTP 404"),
        ({}, "owner/other", "the hub was asked for owner/other: the answer is HTTP 404"),
        ({}, URL, "the answer is HTTP 404"),
    ],
)
async def test_what_cannot_be_applied_is_refused_and_not_kept(gateway, hub, tmp_path, files, path, text):
    hub.commit(ONE, **files)
    told = await problem(gateway, {"path": path})
    assert told.startswith("loras[0].path cannot be used: ")
    assert text in told
    assert "geheim" not in told
    assert [file for file in (tmp_path / "loras").glob("*") if file.name != "places"] == []


async def test_half_of_a_lora_is_refused_by_its_name(gateway, sender, tmp_path):
    half = {f"{MODULE}.lora_A.weight": (2, 8)}
    sender.files[URL] = write(tmp_path / "half.safetensors", half).read_bytes()
    assert "film.safetensors is incomplete" in await problem(gateway, {"path": URL})


async def test_of_several_files_the_usual_one_is_taken(gateway, worker, hub, tmp_path):
    data = lora(tmp_path)
    hub.commit(ONE, **{"a.safetensors": b"", "pytorch_lora_weights.safetensors": data})
    job = await taken(gateway, worker, {"path": "owner/film"})
    assert job["input"]["loras"][0]["sha256"] == hash_of(data)


async def test_a_file_that_has_changed_at_its_url_is_told_and_never_drawn_unasked(gateway, worker, sender, tmp_path):
    first, second = lora(tmp_path, "first"), lora(tmp_path, "second")
    sender.files[URL] = first
    await taken(gateway, worker, {"path": URL})
    sender.files[URL] = second
    # As long as it is kept, nobody asks.
    assert (await taken(gateway, worker, {"path": URL}))["input"]["loras"][0]["sha256"] == hash_of(first)
    forget(tmp_path)
    text = f"is another file at 'https://files.example/film.safetensors' now: its sha256 is {hash_of(second)}, and not "
    assert (await problem(gateway, {"path": URL})).startswith(f"loras[0].path {text}{hash_of(first)};")
    told = await problem(gateway, {"path": URL, "sha256": hash_of(first)})
    assert told.startswith(f"loras[0].sha256 {text}{hash_of(first)};")
    asked = {"path": URL, "sha256": hash_of(second)}
    assert (await taken(gateway, worker, asked))["input"]["loras"][0]["sha256"] == hash_of(second)
    # The place stays what it was to those who say no hash.
    assert (await problem(gateway, {"path": URL})).startswith("loras[0].path is another file")


async def test_a_hash_opens_no_file_that_was_never_at_the_place(gateway, worker, sender, tmp_path):
    data, other = lora(tmp_path), "https://other.example/a.safetensors"
    sender.files |= {URL: data, other: lora(tmp_path, "second")}
    await taken(gateway, worker, {"path": URL})
    told = await problem(gateway, {"path": other, "sha256": hash_of(data)})
    assert told.startswith("loras[0].sha256 is another file at 'https://other.example/a.safetensors' now")


async def test_a_repository_is_pinned_to_its_commit(gateway, worker, hub, tmp_path):
    first, second = lora(tmp_path, "first"), lora(tmp_path, "second")
    hub.commit(ONE, **{"film.safetensors": first})
    await taken(gateway, worker, {"path": "owner/film"})
    hub.commit(TWO, **{"other.safetensors": second})
    forget(tmp_path)
    job = await taken(gateway, worker, {"path": "owner/film"})
    assert job["input"]["loras"][0]["sha256"] == hash_of(first)
    newer = await taken(gateway, worker, {"path": "owner/film", "sha256": hash_of(second)})
    assert newer["input"]["loras"][0]["sha256"] == hash_of(second)


async def test_a_file_that_went_meanwhile_is_fetched_again_for_the_worker(gateway, worker, sender, tmp_path):
    data = sender.files[URL] = lora(tmp_path)
    job = await taken(gateway, worker, {"path": URL})
    forget(tmp_path)
    assert (await file_for(worker, job, hash_of(data))).content == data
    forget(tmp_path)
    sender.files[URL] = lora(tmp_path, "second")
    reply = await file_for(worker, job, hash_of(data))
    assert reply.status_code == 404
    assert "the LoRA 'https://files.example/film.safetensors' can no longer be had: " in reply.json()["error"]


async def test_the_hub_is_told_who_asks(tmp_path, sender, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_geheim")
    monkeypatch.delenv("HF_ENDPOINT", raising=False)
    shelf = FolderShelf((), None, KeptLoras(tmp_path / "loras", 10**9), parse_lora_sources("owner/film, *.example"))
    FakeHub(sender).commit(ONE, **{"film.safetensors": lora(tmp_path)})
    sender.files[URL] = lora(tmp_path, "second")
    async with open_gateway(tmp_path, sender, {FLUX_DEV.endpoint_id: FluxEndpoint(FLUX_DEV, shelf=shelf)}) as gateway:
        assert (await ask(gateway, {"path": "owner/film"}, {"path": URL})).status_code == 200
    told = {url: headers.get("Authorization") for url, headers in sender.headers.items()}
    assert told.pop(URL) is None
    assert set(told.values()) == {"Bearer hf_geheim"}


async def test_what_a_picture_would_cost_is_told_without_fetching(gateway, sender):
    reply = await gateway.post(f"{DEV}/estimate", {"input": {"prompt": "a lake", "loras": [{"path": URL}]}})
    assert reply.status_code == 200, reply.text
    assert sender.fetched == []


async def test_what_is_wrong_is_told_in_the_words_that_were_sent(gateway, worker, sender, tmp_path):
    assert (await problem(gateway, lora_weights="owner/film")).startswith("lora_weights cannot be used: the hub was")
    sender.files[URL] = lora(tmp_path)
    assert (await taken(gateway, worker, lora_weights=URL))["input"]["loras"][0]["path"] == URL


async def test_loras_that_do_not_fit_together_are_refused(tmp_path, sender):
    large = {f"{MODULE}.lora_A.weight": (16_000, 8), f"{MODULE}.lora_B.weight": (8, 16_000)}
    other = "https://other.example/a.safetensors"
    for url in (URL, other):
        sender.files[url] = write(tmp_path / "made.safetensors", large, {}, made=url).read_bytes()
    shelf = FolderShelf((), None, KeptLoras(tmp_path / "loras", 10**6), parse_lora_sources("*.example"))
    endpoints = {FLUX_DEV.endpoint_id: FluxEndpoint(FLUX_DEV, shelf=shelf)}
    async with open_gateway(tmp_path, sender, endpoints, lora_kept_mb=1) as gateway:
        told = await problem(gateway, {"path": URL}, {"path": other})
    assert told == "loras[0].path names one of several LoRAs that do not fit here together (setting LORA_KEPT_MB)"
