"""What a client says of the bucket its result goes to: `s3Config` (contract section 2)."""

import re
from collections.abc import Mapping
from typing import Final

from flux_endpoint.core.errors import InvalidParameter
from flux_endpoint.core.outbound import require_url

_REQUIRED: Final = ("accessId", "accessSecret", "bucketName", "endpointUrl")
_OPTIONAL: Final = ("objectPath", "region")
MAX_CHARS: Final = 1_000
# What the client libraries of S3 take for a bucket's name, without the names of folders.
BUCKET_PATTERN: Final = r"[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+)*"
REGION_PATTERN: Final = "[A-Za-z0-9_-]{1,64}"
_MAX_BUCKET_CHARS: Final = 255
_NO_SEGMENT: Final = ("", ".", "..")

# Providers whose hosts name the region that signatures must be made for, and how: `s3.eu-west-1.amazonaws.com`,
# `bucket.s3.dualstack.eu-west-1.amazonaws.com`, `s3-eu-west-1.amazonaws.com`. Other labels mean nothing.
_REGIONS_IN_HOSTS: Final = tuple(
    re.compile(pattern)
    for pattern in (
        r"(?:^|[.-])([a-z]{2}(?:-[a-z]+){1,2}-\d{1,2})\.(?:vpce\.)?amazonaws\.com(?:\.cn)?$",
        r"(?:^|\.)s3\.([a-z]{2}-[a-z]+-\d{3})\.backblazeb2\.com$",
        r"(?:^|\.)s3\.([a-z]{2}-[a-z]+-\d)\.wasabisys\.com$",
        r"(?:^|\.)([a-z]{3}\d)\.digitaloceanspaces\.com$",
        r"(?:^|\.)s3\.([a-z]{2}-[a-z]{3})\.scw\.cloud$",
        r"(?:^|\.)([a-z]{2}-[a-z]+-\d)\.linodeobjects\.com$",
    )
)
_ANY_REGION: Final = (".r2.cloudflarestorage.com",)
_DEFAULT_REGION: Final = "us-east-1"


def parse_bucket(value: object) -> Mapping[str, str] | None:
    """Check an `s3Config`; null counts as absent, unknown keys are ignored.

    Raises:
        InvalidParameter: a field is wrong; the text names it and its limit.
    """
    if value is None:
        return None
    if not isinstance(value, Mapping):
        raise InvalidParameter("s3Config", "must be a JSON object")
    config = {}
    for name in (*_REQUIRED, *_OPTIONAL):
        text = value.get(name)
        if text is None and name in _OPTIONAL:
            continue
        if text is None:
            raise InvalidParameter(f"s3Config.{name}", "is required")
        if not isinstance(text, str) or not text or len(text) > MAX_CHARS or not text.isprintable():
            raise InvalidParameter(f"s3Config.{name}", f"must be a string of 1 to {MAX_CHARS} printable characters")
        config[name] = text
    _require_endpoint(config["endpointUrl"])
    if len(config["bucketName"]) > _MAX_BUCKET_CHARS or not re.fullmatch(BUCKET_PATTERN, config["bucketName"]):
        raise InvalidParameter(
            "s3Config.bucketName",
            f"must be letters, digits, '-', '_' and single dots between them, at most {_MAX_BUCKET_CHARS} characters",
        )
    if not re.fullmatch(REGION_PATTERN, config.get("region", _DEFAULT_REGION)):
        raise InvalidParameter("s3Config.region", "must be 1 to 64 letters, digits, '-' or '_'")
    object_prefix(config)
    return config


def object_prefix(config: Mapping[str, str]) -> str:
    """What stands before the names of objects: `objectPath` without the slashes around it; empty for nothing.

    Raises:
        InvalidParameter: it has an empty part, or one that would climb in a folder: no object can be called so.
    """
    prefix = config.get("objectPath", "").strip("/")
    if prefix and any(segment in _NO_SEGMENT for segment in prefix.split("/")):
        raise InvalidParameter("s3Config.objectPath", "must have no empty part and none that is '.' or '..'")
    return prefix


def region_of(config: Mapping[str, str], host: str) -> str:
    """The region to sign for: the client's, else the one that a known provider's host names, else the default.

    Args:
        config: a checked `s3Config`.
        host: of its endpoint.
    """
    if "region" in config:
        return config["region"]
    if host.endswith(_ANY_REGION):
        return "auto"
    for pattern in _REGIONS_IN_HOSTS:
        if found := pattern.search(host):
            return found.group(1)
    return _DEFAULT_REGION


def _require_endpoint(url: str) -> None:
    require_url("s3Config.endpointUrl", url)
    # The name of the object is appended to it.
    if "?" in url or "#" in url:
        raise InvalidParameter("s3Config.endpointUrl", "must have no '?' and no '#'")
