"""A picture for a client's bucket, against a real S3 server that checks signatures."""

import os
import secrets

import httpx
import pytest

from flux_endpoint.core.errors import BucketFailed
from flux_endpoint.core.outbound import PUBLIC_ONLY, parse_outbound_allow
from flux_endpoint.images.client_bucket import sign_object
from flux_endpoint.images.object_store import open_image_store
from flux_endpoint.outbound.client import GuardedSender
from flux_endpoint.service.gallery import Gallery
from flux_endpoint.service.pictures import Pictures
from tests.contract.samples import sample_job

pytestmark = pytest.mark.anyio

PNG = b"\x89PNG\r\n\x1a\n" + b"picture" * 100_000


@pytest.fixture
def bucket(s3_endpoint) -> dict[str, str]:
    return {
        "accessId": os.environ["AWS_ACCESS_KEY_ID"],
        "accessSecret": os.environ["AWS_SECRET_ACCESS_KEY"],
        "bucketName": "pictures",
        "endpointUrl": os.environ["AWS_ENDPOINT_URL"],
    }


def pictures(clock, allow: str = "127.0.0.1") -> Pictures:
    async def no_sleep(_: float) -> None: ...

    sender = GuardedSender(parse_outbound_allow(allow) if allow else PUBLIC_ONLY, "flux-endpoint/test")
    return Pictures(Gallery(open_image_store("memory://"), clock, "http://x"), sender, sign_object, no_sleep)


async def test_the_picture_is_there_and_readable_with_the_link_alone(bucket, clock):
    job = sample_job(clock, s3_config=bucket | {"objectPath": f"{secrets.token_hex(4)}/my cats"})
    kept = await pictures(clock).keep(job, PNG)
    assert list(kept) == ["image_url"]
    async with httpx.AsyncClient(trust_env=False) as client:
        shown = await client.get(kept["image_url"])
        assert (shown.status_code, shown.content == PNG) == (200, True)
        # The link is what opens it.
        assert (await client.get(kept["image_url"].partition("?")[0])).status_code in (400, 403)
    # Handing it in twice changes nothing.
    assert list(await pictures(clock).keep(job, PNG)) == ["image_url"]


async def test_a_wrong_secret_or_bucket_is_said_so(bucket, clock):
    for wrong, problem in (
        ({"accessSecret": "wrong"}, "HTTP 403 SignatureDoesNotMatch"),
        ({"bucketName": "none"}, "HTTP 404"),
    ):
        with pytest.raises(BucketFailed, match=f"^s3Config: the picture could not be stored.*{problem}"):
            await pictures(clock).keep(sample_job(clock, s3_config=bucket | wrong), PNG)


async def test_a_bucket_in_the_own_network_is_refused_unless_allowed(bucket, clock):
    with pytest.raises(
        BucketFailed, match=r"s3Config.endpointUrl cannot be called: 127\.0\.0\.1 is a loopback address"
    ):
        await pictures(clock, allow="").keep(sample_job(clock, s3_config=bucket), PNG)
