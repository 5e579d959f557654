"""Together's official Python client, unmodified, against a running server: only the base URL is changed.

Versions 2 take the base URL as it is, as the client for JavaScript does; versions 3 add `/v1` to it.
"""

import base64
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import together

from flux_endpoint.core.marks import parameters_in
from tests.servers import Server, wait_until

DEV = "black-forest-labs/FLUX.1-dev"
SMALL = {"prompt": "a lake", "width": 256, "height": 256, "seed": 7}


@contextmanager
def client_of(server: Server) -> Iterator[together.Together]:
    key = (server.data_dir / "api-key").read_text().strip()
    with together.Together(api_key=key, base_url=f"{server.url}/v1", max_retries=0) as client:
        yield client


def test_a_picture_and_the_same_again(server: Server) -> None:
    with client_of(server) as client:
        first, again = (
            client.images.generate(model=DEV, **SMALL, steps=3, n=2, response_format="base64") for _ in range(2)
        )
        drawn = [parameters_in(base64.b64decode(picture.b64_json)) for picture in first.data]
        assert [(each["seed"], each["steps"]) for each in drawn] == [(7, 3), (8, 3)]
        assert [picture.b64_json for picture in first.data] == [picture.b64_json for picture in again.data]
        [link] = client.images.generate(model=DEV, **SMALL, response_format="url").data
        assert link.url.startswith(f"{server.url}/images/")


def test_what_is_wrong_and_what_failed_reach_the_caller(server: Server, failing_server: Server) -> None:
    with client_of(server) as client, pytest.raises(together.BadRequestError, match="width must be between 256"):
        client.images.generate(model=DEV, prompt="a lake", width=1)
    with client_of(failing_server) as client, pytest.raises(together.InternalServerError, match="no paint"):
        client.images.generate(model=DEV, **SMALL)


def test_a_client_that_waits_no_longer_cancels(slow_server: Server) -> None:
    with client_of(slow_server) as client, pytest.raises(together.APITimeoutError):
        client.with_options(timeout=2).images.generate(model=DEV, **SMALL, steps=50)
    wait_until(lambda: "CANCELLED" in slow_server.client.get("/requests").text, "it is cancelled")
