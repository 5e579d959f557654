"""Pictures over HTTP: right headers, no key, dead after seven days."""

from pathlib import Path

import pytest

from flux_endpoint.core.image_formats import IMAGE_FORMATS, ImageFormat
from tests.api.conftest import DEV, PUBLIC_URL, Gateway, HandWorker, picture_in

pytestmark = pytest.mark.anyio
NO_KEY = {"Authorization": ""}


async def finished_picture(gateway: Gateway, worker: HandWorker, image_format: str) -> str:
    """Make a picture; returns the path of its URL."""
    job_id = await gateway.submit(image_format=image_format)
    job = await worker.take()
    assert job is not None
    await worker.finish(job)
    body = (await gateway.get(f"{DEV}/status/{job_id}")).json()
    url: str = body["output"]["image_url"]
    return url.removeprefix(PUBLIC_URL)


@pytest.mark.parametrize("image_format", IMAGE_FORMATS.values(), ids=IMAGE_FORMATS)
async def test_picture_needs_no_key(gateway: Gateway, worker: HandWorker, image_format: ImageFormat) -> None:
    path = await finished_picture(gateway, worker, image_format.name)
    data = picture_in(image_format)
    reply = await gateway.get(path, headers=NO_KEY)
    assert (reply.status_code, reply.content) == (200, data)
    assert reply.headers["content-type"] == image_format.media_type
    assert reply.headers["content-length"] == str(len(data))
    assert reply.headers["x-content-type-options"] == "nosniff"
    cache_control = reply.headers["cache-control"]
    assert cache_control.startswith("public, max-age=") and cache_control.endswith(", immutable")
    max_age_s = int(cache_control.removeprefix("public, max-age=").removesuffix(", immutable"))
    # The clock of the test stands still while the file gets its real time.
    assert 7 * 86_400 - 60 < max_age_s <= 7 * 86_400 + 60

    head = await gateway.client.head(path, headers=NO_KEY)
    assert (head.status_code, head.content) == (200, b"")
    for name in ("content-type", "content-length", "etag", "last-modified"):
        assert head.headers[name] == reply.headers[name]

    unchanged = await gateway.get(path, headers=NO_KEY | {"If-None-Match": reply.headers["etag"]})
    assert (unchanged.status_code, unchanged.content) == (304, b"")


async def test_picture_dies_after_seven_days(gateway: Gateway, worker: HandWorker, tmp_path: Path) -> None:
    path = await finished_picture(gateway, worker, "png")
    gateway.clock.advance(days=6.99)
    await gateway.janitor.sweep()
    assert (await gateway.get(path)).status_code == 200
    gateway.clock.advance(days=0.02)
    # Dead at once, even before the janitor comes by.
    for reply in (await gateway.get(path), await gateway.client.head(path)):
        assert reply.status_code == 404
    assert (await gateway.get(path)).json() == {"error": "image expired: pictures are kept for 7 days"}
    gateway.clock.advance(s=3_600)  # deleted within an hour
    await gateway.janitor.sweep()
    assert [file for file in (tmp_path / "images").rglob("*") if file.is_file()] == []
    assert (await gateway.get(path)).status_code == 404


@pytest.mark.parametrize("key", ["nothing.png", "..%2f..%2fjobs.db", "x" * 43 + ".png", "%00" * 43 + ".png"])
async def test_unknown_picture_is_404(gateway: Gateway, key: str) -> None:
    reply = await gateway.get(f"/images/{key}")
    assert reply.status_code == 404
    assert list(reply.json()) == ["error"]
