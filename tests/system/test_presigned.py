"""Pictures in a bucket that clients fetch there, and that are proxied for those who must not be sent on."""

import secrets
from collections.abc import Mapping

import httpx
import pytest

from tests.servers import Servers

JPEG = b"\xff\xd8\xff"


def test_a_client_without_a_key_is_sent_to_the_bucket_and_any_other_gets_the_bytes(
    servers: Servers, s3_server: Mapping[str, str]
) -> None:
    place = f"s3://pictures/{secrets.token_hex(6)}"
    settings = {"image_store_url": place, "image_links": "presigned", "outbound_allow": "127.0.0.0/8"}
    server = servers.start(environment=s3_server, **settings)
    job = server.wait_status(server.submit(num_inference_steps=1), "COMPLETED")
    link = job["output"]["image_url"]
    assert link.startswith(f"{server.url}/images/")
    sent_on = httpx.get(link)
    assert sent_on.status_code == 307
    assert sent_on.headers["location"].startswith(s3_server["AWS_ENDPOINT_URL"])
    # Not kept by caches: the signature dies before the link does.
    assert sent_on.headers["cache-control"] == "private, no-store"
    picture = httpx.get(link, follow_redirects=True).content
    assert picture.startswith(JPEG)
    # A client that sends its key would send it to the bucket; a page of this server may load nothing from elsewhere.
    for headers in ({"Authorization": "Bearer any"}, {"x-key": "any"}, {"Sec-Fetch-Site": "same-origin"}):
        proxied = httpx.get(link, headers=headers)
        assert (proxied.status_code, proxied.content) == (200, picture)
    assert httpx.head(link).headers["content-length"] == str(len(picture))
    gone = httpx.get(f"{server.url}/images/{'a' * 40}.png")
    assert gone.status_code == 404


def test_clients_are_not_sent_to_a_private_place_unless_the_operator_says_so(
    servers: Servers, s3_server: Mapping[str, str]
) -> None:
    with pytest.raises(AssertionError, match="IMAGE_LINKS=presigned sends clients to 127") as ended:
        servers.start(environment=s3_server, image_store_url="s3://pictures", image_links="presigned", workers=0)
    assert "OUTBOUND_ALLOW" in str(ended.value)


def test_a_folder_sends_nobody_on(servers: Servers) -> None:
    with pytest.raises(AssertionError, match="IMAGE_LINKS=presigned needs a bucket"):
        servers.start(image_links="presigned", workers=0)
