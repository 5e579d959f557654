"""Replicate's official Python client, unmodified, against a running server: only the base URL is changed."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import replicate
from replicate.exceptions import ReplicateError

from tests.servers import Server

MODEL = "black-forest-labs/flux-dev"
SMALL = {"prompt": "a lake", "width": 256, "height": 256, "output_format": "png"}


@contextmanager
def client_of(server: Server) -> Iterator[replicate.Client]:
    key = (server.data_dir / "api-key").read_text().strip()
    client = replicate.Client(api_token=key, base_url=server.url)
    yield client
    # It has no way to close its connections.
    client._client.close()


def test_a_picture_and_the_same_again(server: Server) -> None:
    with client_of(server) as client:
        [first], [again] = (client.run(MODEL, input=SMALL | {"seed": 7}) for _ in range(2))
        assert first.read().startswith(b"\x89PNG")
        assert first.read() == again.read()


def test_a_version_is_known_by_its_id(server: Server) -> None:
    with client_of(server) as client:
        version = client.predictions.create(MODEL, input=SMALL).version
        [picture] = client.run(f"{MODEL}:{version}", input=SMALL)
        assert picture.read().startswith(b"\x89PNG")


def test_what_is_wrong_reaches_the_caller(server: Server) -> None:
    with client_of(server) as client, pytest.raises(ReplicateError, match="width must be between 256 and 1536"):
        client.run(MODEL, input=SMALL | {"width": 100})


def test_a_slow_prediction_is_polled_with_its_progress_and_cancelled(slow_server: Server) -> None:
    with client_of(slow_server) as client:
        # Asked to wait, this client gives the network half a second, which a busy machine does not have.
        made = client.models.predictions.create(MODEL, input=SMALL | {"num_inference_steps": 50})
        assert made.status == "starting"
        while made.progress is None:
            made.reload()
        assert (made.status, made.progress.total) == ("processing", 50)
        made.cancel()
        made.reload()
        assert made.status == "canceled"
