"""The contract of `ImageStore`, on a folder, a real S3 server and memory."""

import asyncio
import base64
import json
import os
import re
import resource
import time

import boto3
import httpx
import obstore
import pytest

from flux_endpoint.core.errors import ImageGone, ImagesRefused, SettingsError, StoreUnavailable
from flux_endpoint.core.image_formats import new_image_key, new_source_key
from flux_endpoint.core.periods import MS_PER_DAY
from flux_endpoint.core.source_picture import SOURCE_LIFE_MS
from flux_endpoint.images.lifecycle import lifecycle_rule
from flux_endpoint.images.object_store import open_image_store
from flux_endpoint.images.protocol import MAX_SIGNED_S

pytestmark = pytest.mark.anyio

# As large as the largest PNG: more than the client uploads in one part by its own choice.
LARGE = os.urandom(1024) * 7_000
TRAVERSALS = [
    "",
    ".",
    "../secret.png",
    "/etc/passwd",
    "a/../../etc/passwd",
    "..%2fsecret.png",
    f"../{'a' * 40}.png",
    f"{'a' * 40}.exe",
    f"{'a' * 40}.png\n",
    f"{'a' * 40}\x00.png",
    "ü" * 40 + ".png",
]


async def read_all(images, key):
    return b"".join([piece async for piece in images.read(key)])


@pytest.mark.parametrize("data", [b"", b"x", LARGE], ids=["empty", "small", "large"])
@pytest.mark.parametrize("extension", ["png", "jpg"])
async def test_what_was_saved_is_read_back(images, data, extension):
    key = new_image_key(extension)
    before_ms = time.time_ns() // 1_000_000
    await images.save(key, data)
    assert await read_all(images, key) == data
    found = await images.stat(key)
    assert (found.key, found.size_bytes) == (key, len(data))
    # Buckets tell whole seconds.
    assert before_ms - 1_500 <= found.saved_ms <= time.time_ns() // 1_000_000 + 1_500


async def test_a_large_picture_comes_in_pieces(images, image_url):
    key = new_image_key("png")
    await images.save(key, LARGE)
    pieces = [piece async for piece in images.read(key)]
    assert all(isinstance(piece, bytes) for piece in pieces)
    assert len(pieces) > 1 or image_url == "memory://"


async def test_the_etag_stays_with_the_bytes_and_changes_with_them(images):
    key, other = new_image_key("png"), new_image_key("png")
    await images.save(key, b"first")
    first = (await images.stat(key)).etag
    assert first
    assert '"' not in first
    await images.save(other, b"other")
    assert (await images.stat(key)).etag == first
    await images.save(key, b"second!")
    assert await read_all(images, key) == b"second!"
    assert (await images.stat(key)).etag != first


async def test_a_picture_that_never_was_is_gone(images):
    key = new_image_key("png")
    with pytest.raises(ImageGone):
        await images.stat(key)
    with pytest.raises(ImageGone):
        await read_all(images, key)
    await images.save(new_image_key("png"), b"another")
    with pytest.raises(ImageGone):
        await images.stat(key)


@pytest.mark.parametrize("key", TRAVERSALS)
async def test_a_name_that_is_no_key_reaches_nothing(images, key):
    with pytest.raises(ImageGone):
        await images.save(key, b"x")
    with pytest.raises(ImageGone):
        await images.stat(key)
    with pytest.raises(ImageGone):
        await read_all(images, key)


async def test_sweeping_deletes_what_is_old_and_only_that(images):
    keys = [new_image_key("png") for _ in range(70)]
    await asyncio.gather(*(images.save(key, b"x") for key in keys))
    saved = [(await images.stat(key)).saved_ms for key in keys]
    assert await images.sweep(min(saved), min(saved)) == 0
    assert await read_all(images, keys[0]) == b"x"
    assert await images.sweep(max(saved) + 1_001, 0) == 70
    assert await images.sweep(max(saved) + 1_001, 0) == 0
    for key in keys:
        with pytest.raises(ImageGone):
            await images.stat(key)


async def test_pictures_that_clients_sent_are_swept_at_a_time_of_their_own(images):
    keys = [new_source_key(), new_image_key("png")]
    for key in keys:
        await images.save(key, b"x")
    assert await images.sweep(2**45, 0) == 1
    assert await read_all(images, keys[0]) == b"x"
    assert await images.sweep(0, 2**45) == 1


async def test_sweeping_an_empty_store(images):
    assert await images.sweep(2**45, 2**45) == 0


async def test_two_sweeps_at_once_count_each_picture_once_on_a_folder(tmp_path):
    images = open_image_store(str(tmp_path))
    for _ in range(40):
        await images.save(new_image_key("png"), b"x")
    assert sum(await asyncio.gather(*(images.sweep(2**45, 2**45) for _ in range(4)))) == 40


async def test_many_readers_and_writers_at_once(images):
    keys = [new_image_key("jpg") for _ in range(20)]

    async def save_and_read(number, key):
        data = bytes([number]) * 50_000
        await images.save(key, data)
        assert await read_all(images, key) == data

    await asyncio.gather(*(save_and_read(number, key) for number, key in enumerate(keys)))


async def test_a_reader_never_sees_half_a_picture(images):
    key = new_image_key("png")
    versions = [bytes([number]) * 2_000_000 for number in range(4)]
    await images.save(key, versions[0])

    async def overwrite():
        for version in versions:
            await images.save(key, version)

    writer = asyncio.create_task(overwrite())
    while not writer.done():
        assert (await images.stat(key)).size_bytes == 2_000_000
        await asyncio.sleep(0)
    assert await read_all(images, key) == versions[-1]


# Memory forgets by design.
@pytest.mark.parametrize("image_url", ["folder", "s3"], indirect=True)
async def test_pictures_survive_a_restart(images, image_url):
    key = new_image_key("png")
    await images.save(key, LARGE)
    assert await read_all(open_image_store(image_url), key) == LARGE


async def test_a_folder_holds_one_plain_file_per_picture_and_other_files_are_left_alone(tmp_path):
    images = open_image_store(f"file://{tmp_path}/with%20space")
    folder = tmp_path / "with space"
    key = new_image_key("png")
    await images.save(key, b"bytes")
    (folder / "README.txt").write_text("not ours")
    assert (folder / key).read_bytes() == b"bytes"
    assert sorted(path.name for path in folder.iterdir()) == sorted([key, "README.txt"])
    assert await images.sweep(2**45, 2**45) == 1
    assert [path.name for path in folder.iterdir()] == ["README.txt"]


async def test_a_relative_folder_stays_where_it_was_when_the_process_moves(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    images = open_image_store("pictures")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    key = new_image_key("png")
    await images.save(key, b"x")
    assert (tmp_path / "pictures" / key).exists()


async def test_a_folder_that_is_no_folder_any_more_is_unavailable(tmp_path):
    images = open_image_store(f"{tmp_path}/pictures")
    (tmp_path / "pictures").rmdir()
    (tmp_path / "pictures").write_text("in the way")
    with pytest.raises(StoreUnavailable):
        await images.save(new_image_key("png"), b"x")
    with pytest.raises(StoreUnavailable):
        await images.stat(new_image_key("png"))


async def test_a_full_disk_is_unavailable_and_leaves_nothing(tmp_path):
    images = open_image_store(str(tmp_path))
    key = new_image_key("png")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    # A limit on the size of files stands in for a disk that fills up in the middle of one.
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, hard))
    try:
        with pytest.raises(StoreUnavailable):
            await images.save(key, b"x" * 100_000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    with pytest.raises(ImageGone):
        await images.stat(key)
    assert list(tmp_path.iterdir()) == []


async def test_a_bucket_that_refuses_our_keys_is_unavailable(s3_endpoint, monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    images = open_image_store("s3://pictures/x")
    with pytest.raises(StoreUnavailable) as caught:
        await images.save(new_image_key("png"), b"x")
    assert "\n" not in str(caught.value)
    assert "wrong" not in str(caught.value)


async def test_a_bucket_nobody_answers_for_is_unavailable(s3_endpoint, monkeypatch, unused_port):
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{unused_port}")
    images = open_image_store("s3://pictures")
    with pytest.raises(StoreUnavailable):
        await images.save(new_image_key("png"), b"x")
    with pytest.raises(StoreUnavailable):
        await images.stat(new_image_key("png"))
    with pytest.raises(StoreUnavailable):
        await images.sweep(2**45, 2**45)


async def test_prefixes_of_one_bucket_do_not_see_each_other(s3_endpoint):
    left, right = open_image_store("s3://pictures/left"), open_image_store("s3://pictures/right/")
    key = new_image_key("png")
    await left.save(key, b"x")
    with pytest.raises(ImageGone):
        await right.stat(key)
    assert await right.sweep(2**45, 2**45) == 0
    assert await left.sweep(2**45, 2**45) == 1


@pytest.mark.parametrize(
    "url", ["", " ", "ftp://host/x", "http://host/x", "file://relative/x", "s3:/x", "s3://", "az://c"]
)
async def test_a_wrong_url_is_refused_with_the_setting_and_the_allowed_forms(url, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SettingsError, match="IMAGE_STORE_URL") as caught:
        open_image_store(url)
    assert "s3://bucket/prefix" in str(caught.value)
    assert list(tmp_path.iterdir()) == []


async def test_a_folder_that_cannot_be_made_is_refused(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(SettingsError, match="IMAGE_STORE_URL"):
        open_image_store(f"{tmp_path}/file/pictures")


@pytest.mark.parametrize("url", ["s3://bucket", "s3://bucket/a/b", "gs://bucket/prefix", "az://container/prefix"])
async def test_bucket_urls_open_without_asking_the_network(url, monkeypatch):
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_NAME", "account")
    open_image_store(url)


async def test_a_store_that_works_passes_its_check_and_keeps_nothing_of_it(images):
    await images.check()
    assert await images.sweep(2**45, 2**45) == 0


async def test_deleting_is_final_and_may_be_repeated(images):
    key, other = new_image_key("png"), new_image_key("png")
    await images.save(key, b"x")
    await images.save(other, b"y")
    for _ in range(2):
        await images.delete(key)
    with pytest.raises(ImageGone):
        await images.stat(key)
    assert await read_all(images, other) == b"y"


async def test_a_bucket_that_is_not_there_is_no_picture_that_is_gone(s3_endpoint):
    images = open_image_store("s3://no-such-bucket/x")
    for ask in (images.save(new_image_key("png"), b"x"), read_all(images, new_image_key("png")), images.check()):
        with pytest.raises(ImagesRefused) as caught:
            await ask
        assert str(caught.value) == "the image store has no such bucket or folder"


@pytest.mark.parametrize("name", ["AWS_SECRET_ACCESS_KEY", "AWS_ACCESS_KEY_ID"])
async def test_wrong_keys_are_told_without_naming_them(s3_endpoint, monkeypatch, name):
    monkeypatch.setenv(name, "wrong")
    images = open_image_store("s3://pictures/x")
    key = new_image_key("png")
    for ask in (images.save(key, b"x"), images.stat(key), read_all(images, key), images.delete(key), images.check()):
        with pytest.raises(ImagesRefused) as caught:
            await ask
        assert str(caught.value) == "the image store refuses access: check its keys and what they may do"


async def test_a_store_that_lies_fails_its_check(tmp_path, monkeypatch):
    images = open_image_store(str(tmp_path))

    async def forget(store, key, data, **options):
        (tmp_path / key).write_bytes(data[:-1])

    monkeypatch.setattr(obstore, "put_async", forget)
    with pytest.raises(StoreUnavailable, match="does not give back what it was given"):
        await images.check()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("image_url", ["s3", "moto"], indirect=True)
async def test_a_signed_url_shows_a_picture_to_whoever_has_it(images):
    key = new_image_key("png")
    await images.save(key, b"picture")
    signed = await images.sign(key, 60)
    async with httpx.AsyncClient() as client:
        assert (await client.get(signed)).content == b"picture"
    with pytest.raises(ImageGone):
        await images.sign("../secret.png", 60)


@pytest.mark.parametrize("seconds", [0, MAX_SIGNED_S + 1])
async def test_a_signature_that_no_bucket_takes_is_not_made(s3_endpoint, seconds):
    with pytest.raises(ValueError, match="604800"):
        await open_image_store("s3://pictures").sign(new_image_key("png"), seconds)


async def test_a_folder_signs_nothing(tmp_path):
    with pytest.raises(SettingsError, match="IMAGE_LINKS=presigned needs a bucket"):
        await open_image_store(str(tmp_path)).sign(new_image_key("png"), 60)


async def test_signing_for_google_and_azure_asks_nobody(monkeypatch):
    # Keys of no account: whether the vendors take such a URL cannot be tried here.
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_NAME", "account")
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_KEY", base64.b64encode(b"key").decode())
    key = new_image_key("png")
    signed = await open_image_store("az://container/prefix").sign(key, 60)
    assert signed.startswith(f"https://account.blob.core.windows.net/container/prefix/{key}?")
    assert "sig=" in signed


async def test_the_rule_for_a_bucket_is_taken_by_a_server_of_s3(moto_endpoint):
    rule = lifecycle_rule("s3://pictures/flux", 29.5)
    client = boto3.client("s3", endpoint_url=os.environ["AWS_ENDPOINT_URL"])
    client.put_bucket_lifecycle_configuration(Bucket="pictures", LifecycleConfiguration=json.loads(rule.text))
    (kept,) = client.get_bucket_lifecycle_configuration(Bucket="pictures")["Rules"]
    assert kept["Expiration"] == {"Days": 30}
    assert kept["Filter"] == {"Prefix": "flux/"}
    assert not rule.is_for_all
    client.close()


@pytest.mark.parametrize("url", ["s3://pictures/flux", "gs://pictures", "az://pictures/flux"])
def test_the_rule_for_a_bucket_leaves_pictures_to_jobs_that_wait_for_them(url):
    days = re.findall(r'"(?:Days|age|daysAfterModificationGreaterThan)": (\d+)', lifecycle_rule(url, 1).text)
    assert [int(one) * MS_PER_DAY >= SOURCE_LIFE_MS for one in days] == [True]
