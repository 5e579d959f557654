"""Runpod's official JavaScript clients, unmodified, against a running server: only the base URL is changed."""

import base64
import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from flux_endpoint.core.marks import parameters_in
from tests.servers import DEADLINE_S, DEV, Server, Servers

NODE = Path(__file__).parent / "node"

Told = dict[str, Any]


def run_scenario(server: Server, *names: str, node: str = "node", folder: Path = NODE) -> Any:
    """What one scenario prints; of several, by name."""
    key = (server.data_dir / "api-key").read_text().strip()
    environment = os.environ | {"BASE_URL": f"{server.url}/v2", "API_KEY": key, "ENDPOINT": DEV}
    deadline_s = DEADLINE_S * len(names)
    done = subprocess.run(
        [node, "clients.mjs", *names], cwd=folder, env=environment, capture_output=True, text=True, timeout=deadline_s
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    servers = Servers(tmp_path_factory.mktemp("server"))
    yield servers.start(model="fake", kontext_model="fake")
    servers.close()


# Starting Node with all clients costs more than what they do: each fixture here is one start for many tests.
@pytest.fixture(scope="module")
def told(server: Server) -> Told:
    return run_scenario(
        server,
        *("runSync", "runThenStatus", "cancelHealthPurge", "badInput", "imageProviderOptions", "imageChanged"),
        *("imageDefaultSize", "imageAspectRatio", "imageSizeAndSeed", "imageRefused"),
        *("openaiImages", "openaiStream", "openaiRefused", "aiSdkOpenaiRefused"),
        *("aiSdkOpenai", "aiSdkOpenaiCompatible"),
        *("aiSdkBlackForestLabs", "aiSdkBlackForestLabsRefused", "huggingface", "huggingfaceRefused"),
        *("replicate", "replicateRefused", "aiSdkReplicate"),
        *("falRun", "falRefused", "falUpload", "falStream", "aiSdkFal", "aiSdkFalRefused"),
        *("together", "togetherRefused", "aiSdkTogether", "aiSdkTogetherRefused"),
    )


@pytest.fixture(scope="module")
def told_slowly(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Told]:
    servers = Servers(tmp_path_factory.mktemp("slow"))
    try:
        yield run_scenario(servers.start(model="fake:0.2"), "stream", "falSubscribe", "falCancel")
    finally:
        servers.close()


@pytest.fixture(scope="module")
def told_of_failures(failing_server: Server) -> Told:
    return run_scenario(failing_server, "falFailed", "aiSdkFalFailed", "togetherFailed")


def parameters_of(image: dict[str, Any]) -> dict[str, Any]:
    return parameters_in(base64.b64decode(image["base64"]))


def test_sdk_run_sync(told: Told) -> None:
    result = told["runSync"]
    assert (result["status"], result["completed"], result["succeeded"]) == ("COMPLETED", True, True)
    assert result["output"]["image_url"] == result["output"]["result"]
    assert result["output"]["cost"] == 0.00131072


def test_sdk_run_then_status(told: Told) -> None:
    result = told["runThenStatus"]
    assert result["held"]["status"] == "COMPLETED"
    assert result["held"]["output"] == result["status"]["output"]


def test_sdk_cancel_health_purge(told: Told) -> None:
    result = told["cancelHealthPurge"]
    # The fake engine may be done before the cancel arrives.
    assert result["cancelled"]["status"] in ("CANCELLED", "COMPLETED")
    assert set(result["health"]) == {"jobs", "workers"}
    assert result["purged"] == {"removed": 0, "status": "completed"}


def test_sdk_streams_the_steps(told_slowly: Told) -> None:
    result = told_slowly["stream"]
    steps = [chunk["output"]["step"] for chunk in result["chunks"]]
    assert steps and steps == sorted(set(steps))
    assert {chunk["output"]["total"] for chunk in result["chunks"]} == {50}
    assert result["status"]["status"] == "COMPLETED"


def test_sdk_gets_the_reason_of_a_refusal(told: Told) -> None:
    result = told["badInput"]
    assert (result["status"], result["body"]["error"]) == (
        400,
        "Invalid parameter: width must be between 256 and 1536",
    )


@pytest.mark.parametrize(
    ("scenario", "size", "cost"),
    [
        ("imageDefaultSize", (1328, 1328), 0.03527168),
        ("imageAspectRatio", (1472, 1140), 0.0335616),
        ("imageSizeAndSeed", (1024, 768), 0.01572864),
    ],
)
def test_ai_sdk_draws_at_each_size_it_sends(told: Told, scenario: str, size: tuple[int, int], cost: float) -> None:
    image = told[scenario]
    assert image["mediaType"] == "image/png"
    assert image["metadata"]["cost"] == cost
    parameters = parameters_of(image)
    assert (int(parameters["width"]), int(parameters["height"])) == size
    if scenario == "imageSizeAndSeed":
        assert int(parameters["seed"]) == 42


def test_ai_sdk_hands_provider_options_through(told: Told) -> None:
    image = told["imageProviderOptions"]
    assert image["mediaType"] == "image/jpeg"


def test_ai_sdk_changes_a_picture(told: Told) -> None:
    image = told["imageChanged"]
    assert (image["mediaType"], image["warnings"], image["metadata"]["cost"]) == ("image/png", [], 0.025)
    parameters = parameters_of(image)
    shown = [parameters[name] for name in ("width", "height", "seed", "steps", "guidance")]
    assert shown == [768, 512, 3, 28, 2.0]
    assert len(parameters["source_image"]) == 64


def test_ai_sdk_tells_the_reason_of_a_refusal(told: Told) -> None:
    refusal = told["imageRefused"]
    assert refusal == {
        "message": "Invalid parameter: num_inference_steps must be between 1 and 50",
        "status": 400,
    }


def test_openai_draws_several_pictures(server: Server, told: Told) -> None:
    answer = told["openaiImages"]
    assert [picture["seed"] for picture in answer["data"]] == [5, 6]
    for picture in answer["data"]:
        assert picture["url"].startswith(server.url)
        assert parameters_of({"base64": picture["b64_json"]})["steps"] == 2


def test_openai_streams_and_ends(told: Told) -> None:
    types = told["openaiStream"]
    assert types[-1] == "image_generation.completed"


def test_openai_tells_the_reason_of_a_refusal(told: Told) -> None:
    refusal = told["openaiRefused"]
    assert (refusal["status"], refusal["param"]) == (400, "n")
    assert "must be between 1 and 10" in refusal["message"]


def test_ai_sdk_draws_by_its_openai_provider(told: Told) -> None:
    [image] = told["aiSdkOpenai"]["images"]
    assert image["mediaType"] == "image/png"
    assert parameters_of(image)["steps"] == 4


def test_ai_sdk_draws_by_its_compatible_provider(told: Told) -> None:
    images = told["aiSdkOpenaiCompatible"]["images"]
    # Its own option `seed` is not sent, and the SDK warns of that: among the options of the provider it is.
    assert [parameters_of(image)["seed"] for image in images] == [9, 10]


def test_ai_sdk_tells_the_reason_of_an_openai_refusal(told: Told) -> None:
    refusal = told["aiSdkOpenaiRefused"]
    assert refusal["statusCode"] == 400
    assert "size must be between 256 and 1536" in refusal["message"]


def test_ai_sdk_draws_by_its_provider_of_black_forest_labs(told: Told) -> None:
    [image] = told["aiSdkBlackForestLabs"]["images"]
    assert image["mediaType"] == "image/jpeg"
    refusal = told["aiSdkBlackForestLabsRefused"]
    assert refusal["statusCode"] == 400
    assert "width must be between 256 and 1536" in refusal["message"]


def test_huggingface_gets_the_bytes_of_a_picture(told: Told) -> None:
    image = told["huggingface"]
    assert image["mediaType"] == "image/png"
    assert parameters_of(image)["seed"] == 6
    refusal = told["huggingfaceRefused"]
    assert refusal["status"] == 400
    assert "width must be between 256 and 1536" in refusal["message"]


def test_replicate_makes_files_of_pictures(told: Told) -> None:
    image = told["replicate"]
    assert parameters_of(image)["seed"] == 8
    assert "width must be between 256 and 1536" in told["replicateRefused"]["message"]


def test_ai_sdk_draws_by_its_replicate_provider(told: Told) -> None:
    [image] = told["aiSdkReplicate"]["images"]
    assert image["mediaType"] == "image/webp"


def test_fal_draws_through_its_proxy(told: Told) -> None:
    answer = told["falRun"]
    [image] = answer["data"]["images"]
    assert (answer["data"]["seed"], answer["requestId"].startswith("flux-schnell_")) == (5, True)
    assert parameters_of({"base64": image["url"].partition(",")[2]})["seed"] == 5


def test_fal_tells_the_reason_of_a_refusal(told: Told) -> None:
    refusal = told["falRefused"]
    assert (refusal["status"], refusal["message"]) == (422, "Invalid parameter: prompt must not be empty")
    refusal = told["falUpload"]
    assert (refusal["status"], "files are not kept here" in refusal["message"]) == (501, True)


def test_fal_follows_a_slow_request_by_polling_and_by_stream(told_slowly: Told) -> None:
    for answer in told_slowly["falSubscribe"]:
        assert answer["seed"] == 5
        assert answer["states"][-1] == "COMPLETED"
    # Six steps take a second or so: a client that gets no processor for that long misses them, hardly both times.
    assert any("IN_PROGRESS" in answer["states"] for answer in told_slowly["falSubscribe"])


def test_fal_cancels(told_slowly: Told) -> None:
    answer = told_slowly["falCancel"]
    assert answer["status"] == "COMPLETED"
    assert (answer["problem"]["status"], answer["problem"]["requestId"]) == (499, answer["requestId"])


def test_fal_tells_why_a_request_failed(told_of_failures: Told) -> None:
    failure = told_of_failures["falFailed"]
    assert (failure["status"], "no paint" in failure["message"]) == (500, True)


def test_fal_streams(server: Server, told: Told) -> None:
    assert told["falStream"]["images"][0]["url"].startswith(server.url)


def test_ai_sdk_draws_by_its_fal_provider(told: Told, told_of_failures: Told) -> None:
    images = told["aiSdkFal"]["images"]
    # It asks twice with one seed.
    assert images[0] == images[1]
    refusal = told["aiSdkFalRefused"]
    assert (refusal["status"], "width must be between 256 and 1536" in refusal["message"]) == (422, True)
    failure = told_of_failures["aiSdkFalFailed"]
    assert (failure["status"], "no paint" in failure["message"]) == (500, True)


def test_together_draws(server: Server, told: Told) -> None:
    answer = told["together"]
    assert all(picture["url"].startswith(server.url) for picture in answer["links"])
    drawn = [parameters_of({"base64": picture["b64_json"]}) for picture in answer["bytes"]]
    assert [(each["seed"], each["steps"]) for each in drawn] == [(5, 3), (6, 3)]


def test_together_tells_why_there_is_no_picture(told: Told, told_of_failures: Told) -> None:
    refusal = told["togetherRefused"]
    assert (refusal["status"], "width must be between 256 and 1536" in refusal["message"]) == (400, True)
    failure = told_of_failures["togetherFailed"]
    assert (failure["status"], "no paint" in failure["message"]) == (500, True)


def test_ai_sdk_draws_by_its_together_provider(told: Told) -> None:
    [image] = told["aiSdkTogether"]["images"]
    assert parameters_of(image)["seed"] == 4
    refusal = told["aiSdkTogetherRefused"]
    assert (refusal["status"], "width must be between 256 and 1536" in refusal["message"]) == (400, True)
