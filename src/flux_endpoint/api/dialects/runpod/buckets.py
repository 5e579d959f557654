"""The field `s3Config`: the bucket that the result of a job goes to (contract section 2)."""

import re
from collections.abc import Mapping
from typing import Final

from flux_endpoint.core.bucket import BUCKET_PATTERN, REGION_PATTERN, Bucket
from flux_endpoint.core.errors import InvalidParameter
from flux_endpoint.core.outbound import require_url

_FIELD: Final = "s3Config"
_URL_FIELD: Final = "s3Config.endpointUrl"
# What a bucket calls them.
_NAMES: Final = {
    "accessId": "access_id",
    "accessSecret": "access_secret",
    "bucketName": "name",
    "endpointUrl": "endpoint_url",
    "objectPath": "path",
    "region": "region",
}
_OPTIONAL: Final = ("objectPath", "region")
_MAX_CHARS: Final = 1_000
_MAX_BUCKET_CHARS: Final = 255
_NO_SEGMENT: Final = ("", ".", "..")


def parse_bucket(value: object) -> Bucket | None:
    """Check an `s3Config`; null counts as absent, unknown keys are ignored.

    Raises:
        InvalidParameter: a field is wrong; the text names it and its limit.
    """
    if value is None:
        return None
    if not isinstance(value, Mapping):
        raise InvalidParameter(_FIELD, "must be a JSON object")
    fields: dict[str, str] = {}
    for wire_name, name in _NAMES.items():
        text = value.get(wire_name)
        if text is None and wire_name in _OPTIONAL:
            continue
        if text is None:
            raise InvalidParameter(f"s3Config.{wire_name}", "is required")
        if not isinstance(text, str) or not text or len(text) > _MAX_CHARS or not text.isprintable():
            raise InvalidParameter(
                f"s3Config.{wire_name}", f"must be a string of 1 to {_MAX_CHARS} printable characters"
            )
        fields[name] = text
    bucket = Bucket(**fields, field=_FIELD, url_field=_URL_FIELD)
    _check(bucket)
    return bucket


def s3_config_of(bucket: Bucket) -> dict[str, str]:
    """A bucket as its client has sent it, but for keys that mean nothing."""
    values = {wire_name: getattr(bucket, name) for wire_name, name in _NAMES.items()}
    return {wire_name: value for wire_name, value in values.items() if value is not None}


def _check(bucket: Bucket) -> None:
    require_url(_URL_FIELD, bucket.endpoint_url)
    # The name of the object is appended to it.
    if "?" in bucket.endpoint_url or "#" in bucket.endpoint_url:
        raise InvalidParameter(_URL_FIELD, "must have no '?' and no '#'")
    if len(bucket.name) > _MAX_BUCKET_CHARS or not re.fullmatch(BUCKET_PATTERN, bucket.name):
        raise InvalidParameter(
            "s3Config.bucketName",
            f"must be letters, digits, '-', '_' and single dots between them, at most {_MAX_BUCKET_CHARS} characters",
        )
    if bucket.region is not None and not re.fullmatch(REGION_PATTERN, bucket.region):
        raise InvalidParameter("s3Config.region", "must be 1 to 64 letters, digits, '-' or '_'")
    # Neither an empty part, nor one that would climb in a folder: no object can be called so.
    if bucket.prefix and any(segment in _NO_SEGMENT for segment in bucket.prefix.split("/")):
        raise InvalidParameter("s3Config.objectPath", "must have no empty part and none that is '.' or '..'")
