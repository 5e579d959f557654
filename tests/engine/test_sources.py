import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
import pytest
from huggingface_hub import errors
from safetensors.torch import save_file

from flux_endpoint.core.catalog import FLUX_DEV, FLUX_SCHNELL, ModelFamily
from flux_endpoint.core.errors import CheckpointError
from flux_endpoint.engine import sources
from flux_endpoint.engine.detect import Component
from flux_endpoint.engine.factory import check_source, list_local_models
from flux_endpoint.engine.sources import SourceKind, locate, parse_source
from tests.engine.conftest import open_engine
from tests.engine.test_original_layout import read_transformer

HUB_ID = "black-forest-labs/FLUX.1-dev"
NO_NETWORK = httpx2.ConnectError("connection refused")


def http_error(kind: type[errors.HfHubHTTPError], status: int) -> errors.HfHubHTTPError:
    request = httpx2.Request("GET", "https://huggingface.co/api/models/x")
    return kind("a long text\nof many lines", response=httpx2.Response(status, request=request))


@pytest.mark.parametrize(
    ("text", "kind", "name"),
    [
        ("demo", SourceKind.DEMO, "demo"),
        (HUB_ID, SourceKind.HUB, HUB_ID),
        ("some/where/flux1-dev.safetensors", SourceKind.FILE, "flux1-dev"),
    ],
)
def test_kinds(text: str, kind: SourceKind, name: str) -> None:
    source = parse_source(text)
    assert (source.kind, source.name, source.text) == (kind, name, text)


def test_an_existing_folder_wins_over_a_hub_id(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / HUB_ID).mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    source = parse_source(HUB_ID)
    assert (source.kind, source.name) == (SourceKind.FOLDER, "FLUX.1-dev")


@pytest.mark.parametrize("text", ["", "dev", "/no/such/folder", "a/b/c", "https://huggingface.co/a/b", "../no/such"])
def test_no_source(text: str) -> None:
    with pytest.raises(CheckpointError, match="no such folder, and neither `demo`"):
        parse_source(text)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (http_error(errors.GatedRepoError, 403), "accept a licence first: open https://huggingface.co/" + HUB_ID),
        (http_error(errors.RepositoryNotFoundError, 404), "has no such model"),
        (errors.LocalEntryNotFoundError("x"), "cannot be reached"),
        (errors.OfflineModeIsEnabled("x"), "cannot be reached"),
        (http_error(errors.HfHubHTTPError, 500), "answered HTTP 500"),
        (NO_NETWORK, "the download broke off (ConnectError: connection refused)"),
        (OSError(28, "No space left on device"), "No space left on device"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_hub_errors_become_one_line(monkeypatch: pytest.MonkeyPatch, error: Exception, expected: str) -> None:
    def fail(*_: Any, **__: Any) -> str:
        raise error

    monkeypatch.setattr(sources, "snapshot_download", fail)
    with pytest.raises(CheckpointError) as refused:
        open_engine(HUB_ID, FLUX_DEV)
    text = str(refused.value)
    assert text.startswith(f"Model {HUB_ID}: ")
    assert expected in text
    assert "\n" not in text


@pytest.mark.parametrize("download", [False, True])
def test_without_a_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, download: bool) -> None:
    """The real client against a network that refuses every connection."""

    def refuse(*_: Any, **__: Any) -> None:
        raise NO_NETWORK

    monkeypatch.setattr(httpx2.HTTPTransport, "handle_request", refuse)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    expected = "cannot be reached" if download else "has not been downloaded"
    with pytest.raises(CheckpointError, match=expected):
        check_source(HUB_ID, ModelFamily.DEV, device="cpu", download=download)


def test_only_the_needed_files_are_fetched(
    monkeypatch: pytest.MonkeyPatch, checkpoints: dict[ModelFamily, Path]
) -> None:
    asked: dict[str, Any] = {}

    def fetch(hub_id: str, **options: Any) -> str:
        asked.setdefault("patterns", []).append(options["allow_patterns"])
        asked.update(options, hub_id=hub_id)
        return str(checkpoints[ModelFamily.DEV])

    monkeypatch.setattr(sources, "snapshot_download", fetch)
    engine = open_engine(HUB_ID, FLUX_DEV)
    assert engine.info.name == HUB_ID
    assert "Non-Commercial" in engine.info.notice
    assert asked["hub_id"] == HUB_ID
    assert asked["local_files_only"] is False
    assert asked["patterns"][0] == ["model_index.json", "transformer/config.json"]
    wanted = {
        str(path.relative_to(checkpoints[ModelFamily.DEV]))
        for path in checkpoints[ModelFamily.DEV].rglob("*")
        if path.is_file()
        and any(path.relative_to(checkpoints[ModelFamily.DEV]).match(p) for p in asked["allow_patterns"])
    }
    assert "model_index.json" in wanted
    assert "tokenizer_2/spiece.model" in wanted
    assert not wanted & {"flux1-dev.safetensors", "ae.safetensors", "README.md", "dev_grid.jpg"}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"_class_name": "StableDiffusionXLPipeline"}, "describes a StableDiffusionXLPipeline, not a FluxPipeline"),
        ({}, "this is a dev checkpoint"),
    ],
)
def test_a_wrong_hub_id_is_refused_before_its_weights_are_fetched(
    monkeypatch: pytest.MonkeyPatch,
    copy_checkpoint: Callable[[ModelFamily], Path],
    changes: dict[str, str],
    expected: str,
) -> None:
    folder = copy_checkpoint(ModelFamily.DEV)
    index = folder / "model_index.json"
    index.write_text(json.dumps(json.loads(index.read_text()) | changes))

    def fetch(_: str, *, allow_patterns: list[str], **__: Any) -> str:
        assert not any("safetensors" in pattern for pattern in allow_patterns)
        return str(folder)

    monkeypatch.setattr(sources, "snapshot_download", fetch)
    with pytest.raises(CheckpointError, match=f"^Model {HUB_ID}: .*{expected}"):
        open_engine(HUB_ID, FLUX_SCHNELL)


def test_listing_finds_the_embedded_model_and_downloaded_ones(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "none"))
    assert [model.source for model in list_local_models()] == ["demo"]
    for name, kind in ((HUB_ID, "FluxPipeline"), ("other/model", "StableDiffusionPipeline")):
        repository = tmp_path / ("models--" + name.replace("/", "--"))
        snapshot = repository / "snapshots/0123456789012345678901234567890123456789"
        snapshot.mkdir(parents=True)
        (repository / "refs").mkdir()
        (repository / "refs/main").write_text(snapshot.name)
        (snapshot / "model_index.json").write_text(json.dumps({"_class_name": kind}))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    models = list_local_models()
    assert [model.source for model in models] == ["demo", HUB_ID]
    assert all(model.size_bytes > 0 for model in models)


def test_a_missing_embedded_model_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sources, "_demo_folder", lambda: tmp_path)
    with pytest.raises(CheckpointError, match=r"Model demo: .*model_index\.json is missing"):
        check_source("demo", ModelFamily.DEV, device="cpu")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("transformer=nowhere.safetensors", "nowhere.safetensors: no such file or folder"),
        ("demo demo kind=dev", "it names two places, demo and demo"),
        ("demo kind=dev 'x", "No closing quotation"),
        ("demo kind=sdxl", "kind= is one of dev, schnell, krea, kontext, fill, canny, depth"),
    ],
)
def test_words_that_make_no_sense(text: str, problem: str) -> None:
    with pytest.raises(CheckpointError, match=f"^Model {text}: .*{problem}"):
        parse_source(text)


def test_a_place_with_spaces_and_signs_is_a_place(tmp_path: Path) -> None:
    folder = tmp_path / "my vae=best models"
    folder.mkdir()
    source = parse_source(str(folder))
    assert (source.kind, source.base, source.components) == (SourceKind.FOLDER, str(folder), {})


def test_a_lone_file_needs_one_folder_for_the_rest(
    copy_checkpoint: Callable[[ModelFamily], Path], tmp_path: Path
) -> None:
    folder = copy_checkpoint(ModelFamily.DEV)
    alone = tmp_path / "alone/flux.safetensors"
    alone.parent.mkdir()
    save_file(read_transformer(folder), alone)
    with pytest.raises(CheckpointError, match=r"no file in .*alone that is an autoencoder; name one: vae=FILE"):
        locate(parse_source(str(alone)), ModelFamily.DEV, download=False)
    beside = tmp_path / "flux.safetensors"
    alone.rename(beside)
    lone = parse_source(str(beside))
    located = locate(lone, ModelFamily.DEV, download=False)
    assert (located.places[Component.TRANSFORMER], located.places[Component.VAE]) == (beside, folder / "vae")
    copy_checkpoint(ModelFamily.SCHNELL)
    with pytest.raises(CheckpointError, match=r"may be in .*FLUX\.1-dev, .*FLUX\.1-schnell: name its components"):
        locate(lone, ModelFamily.DEV, download=False)
