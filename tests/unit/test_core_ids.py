"""Names nobody can guess: `core.ids`, and those of pictures."""

import re

import pytest

from flux_endpoint.api.dialects.runpod.jobs import new_job_id
from flux_endpoint.core.ids import new_api_key, new_key_id, new_worker_token
from flux_endpoint.core.image_formats import is_image_key, new_image_key

UUID4 = "[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"


@pytest.mark.parametrize(
    ("mint", "pattern"),
    [
        (lambda: new_job_id(sync=False), rf"{UUID4}-u1"),
        (lambda: new_job_id(sync=True), rf"sync-{UUID4}-u1"),
        (new_api_key, r"fxe_[A-Za-z0-9_-]{43}"),
        (new_worker_token, r"fxw_[A-Za-z0-9_-]{43}"),
        (new_key_id, r"[0-9a-f]{12}"),
        (lambda: new_image_key("png"), r"[A-Za-z0-9_-]{43}\.png"),
        (lambda: new_image_key("jpg"), r"[A-Za-z0-9_-]{43}\.jpg"),
    ],
    ids=["job", "sync job", "API key", "worker token", "key id", "png", "jpg"],
)
def test_ids_have_their_form_and_are_never_minted_twice(mint, pattern):
    minted = [mint() for _ in range(1_000)]
    assert all(re.fullmatch(pattern, each) for each in minted)
    assert len(set(minted)) == 1_000


def test_minted_image_keys_are_image_keys():
    assert all(is_image_key(new_image_key(extension)) for extension in ("png", "jpg", "webp") for _ in range(100))


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".png",
        "short.png",
        "a" * 19 + ".png",
        "a" * 65 + ".png",
        "a" * 43,
        "a" * 43 + ".jpeg",
        "a" * 43 + ".gif",
        "a" * 43 + ".PNG",
        "a" * 43 + ".png\n",
        "a" * 43 + ".png.exe",
        "../" + "a" * 43 + ".png",
        "a" * 20 + "/" + "a" * 20 + ".png",
        "a" * 20 + "\\" + "a" * 20 + ".png",
        "a" * 20 + "%2f" + "a" * 20 + ".png",
        "a" * 20 + "\x00" + "a" * 20 + ".png",
        "é" * 43 + ".png",
    ],
)
def test_anything_else_is_no_image_key(name):
    assert not is_image_key(name)
