"""The bucket that a client wants its result in."""

import dataclasses
import re
from dataclasses import dataclass
from typing import Final

# What the client libraries of S3 take for a bucket's name, without the names of folders.
BUCKET_PATTERN: Final = r"[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+)*"
REGION_PATTERN: Final = "[A-Za-z0-9_-]{1,64}"

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


@dataclass(frozen=True, slots=True)
class Bucket:
    """A bucket of a client, checked.

    Attributes:
        endpoint_url: of the service.
        name: of the bucket.
        access_id: names the key.
        access_secret: the key.
        path: what the names of objects begin with, as it was sent; None for nothing.
        region: to sign for; None where the client did not say.
        field: what the client calls the bucket: errors begin with it.
        url_field: what the client calls the URL.
    """

    endpoint_url: str
    name: str
    access_id: str
    access_secret: str = dataclasses.field(repr=False)
    path: str | None = None
    region: str | None = None
    field: str = "bucket"
    url_field: str = "bucket.endpoint_url"

    @property
    def prefix(self) -> str:
        """What stands before the names of objects, without slashes around it; empty for nothing."""
        return (self.path or "").strip("/")


def region_of(bucket: Bucket, host: str) -> str:
    """The region to sign for: the client's, else the one that a known provider's host names, else the default.

    Args:
        bucket: of the client.
        host: of its endpoint.
    """
    if bucket.region is not None:
        return bucket.region
    if host.endswith(_ANY_REGION):
        return "auto"
    for pattern in _REGIONS_IN_HOSTS:
        if found := pattern.search(host):
            return found.group(1)
    return _DEFAULT_REGION
