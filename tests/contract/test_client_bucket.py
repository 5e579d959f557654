"""A picture for a client's bucket, against a real S3 server that checks signatures."""

import os
import secrets
from dataclasses import replace

import httpx
import pytest

from flux_endpoint.core.bucket import Bucket
from flux_endpoint.core.errors import BucketFailed
from flux_endpoint.core.image_formats import PNG as PNG_FORMAT
from flux_endpoint.core.outbound import PUBLIC_ONLY, parse_outbound_allow
from flux_endpoint.images.client_bucket import sign_object
from flux_endpoint.outbound.client import GuardedSender
from flux_endpoint.service.buckets import Buckets

pytestmark = pytest.mark.anyio

PNG = b"\x89PNG\r\n\x1a\n" + b"picture" * 100_000


@pytest.fixture
def bucket(s3_endpoint) -> Bucket:
    return Bucket(
        os.environ["AWS_ENDPOINT_URL"],
        "pictures",
        os.environ["AWS_ACCESS_KEY_ID"],
        os.environ["AWS_SECRET_ACCESS_KEY"],
        field="theirs",
        url_field="theirs.url",
    )


def buckets(allow: str = "127.0.0.1") -> Buckets:
    async def no_sleep(_: float) -> None: ...

    sender = GuardedSender(parse_outbound_allow(allow) if allow else PUBLIC_ONLY, "flux-endpoint/test")
    return Buckets(sender, sign_object, no_sleep)


async def test_the_picture_is_there_and_readable_with_the_link_alone(bucket):
    config = replace(bucket, path=f"{secrets.token_hex(4)}/my cats")
    url = await buckets().put(config, "lake", PNG_FORMAT, PNG)
    async with httpx.AsyncClient(trust_env=False) as client:
        shown = await client.get(url)
        assert (shown.status_code, shown.content == PNG) == (200, True)
        # The link is what opens it.
        assert (await client.get(url.partition("?")[0])).status_code in (400, 403)
    # Handing it in twice changes nothing.
    assert (await buckets().put(config, "lake", PNG_FORMAT, PNG)).partition("?")[0] == url.partition("?")[0]


async def test_a_wrong_secret_or_bucket_is_said_so(bucket):
    for wrong, problem in (
        ({"access_secret": "wrong"}, "HTTP 403 SignatureDoesNotMatch"),
        ({"name": "none"}, "HTTP 404"),
    ):
        with pytest.raises(BucketFailed, match=f"^theirs: the picture could not be stored.*{problem}"):
            await buckets().put(replace(bucket, **wrong), "lake", PNG_FORMAT, PNG)


async def test_a_bucket_in_the_own_network_is_refused_unless_allowed(bucket):
    with pytest.raises(BucketFailed, match=r"theirs.url cannot be called: 127\.0\.0\.1 is a loopback address"):
        await buckets(allow="").put(bucket, "lake", PNG_FORMAT, PNG)
