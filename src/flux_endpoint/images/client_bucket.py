"""Signed URLs of a bucket that a client named, made offline from the keys it sent."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

import obstore
from obstore.exceptions import BaseError
from obstore.store import S3Store

from flux_endpoint.core.errors import BucketFailed

if TYPE_CHECKING:
    # Exists for type checkers only.
    from obstore.store import S3Credential

# What Runpod's own helper grants: as long as a signature of this kind can last.
_READABLE_FOR: Final = timedelta(days=7)
_WRITABLE_FOR: Final = timedelta(minutes=5)
_DEFAULT_REGION: Final = "us-east-1"


@dataclass(frozen=True, slots=True)
class SignedObject:
    """One object of the client's bucket.

    Attributes:
        put_url: takes the bytes, for some minutes.
        get_url: shows them to whoever has it, for 604,800 seconds.
    """

    put_url: str
    get_url: str


def sign_object(config: Mapping[str, str], name: str) -> SignedObject:
    """Sign the URLs with which an object is written and read. Nothing is sent.

    Args:
        config: the client's `s3Config`, checked: accessId, accessSecret, bucketName, endpointUrl and perhaps
            objectPath, a prefix.
        name: of the object, after the prefix.

    Raises:
        BucketFailed: no URL can be made of this.
    """
    credentials: S3Credential = {
        "access_key_id": config["accessId"],
        "secret_access_key": config["accessSecret"],
        "expires_at": None,
    }
    prefix = config.get("objectPath", "").strip("/")
    path = f"{prefix}/{name}" if prefix else name
    endpoint = config["endpointUrl"].rstrip("/")
    host = urlsplit(endpoint).hostname or ""
    try:
        store = S3Store(
            config["bucketName"],
            endpoint=endpoint,
            region=_region_of(host),
            # Every choice is spelt out: what is left open is read from the operator's AWS_* variables. With plain keys
            # the operator's own session token would be written into the client's URLs.
            credential_provider=lambda: credentials,
            virtual_hosted_style_request=host.startswith(config["bucketName"].lower() + "."),
            skip_signature=False,
            request_payer=False,
            s3_express=False,
            client_options={"allow_http": True},
        )
        put_url = obstore.sign(store, "PUT", path, _WRITABLE_FOR)
        get_url = obstore.sign(store, "GET", path, _READABLE_FOR)
    except (BaseError, ValueError) as error:
        raise BucketFailed(f"s3Config: no object can be named with it: {str(error).partition(chr(10))[0]}") from None
    return SignedObject(put_url, get_url)


def _region_of(host: str) -> str:
    """The region that the host of an S3 service names; signatures are made for one."""
    labels = host.split(".")
    if host.endswith(".r2.cloudflarestorage.com"):
        return "auto"
    if host.endswith(".digitaloceanspaces.com"):
        return labels[-3]
    # s3.eu-west-1.amazonaws.com, bucket.s3.eu-central-003.backblazeb2.com; not s3.amazonaws.com.
    if "s3" in labels and len(labels) > labels.index("s3") + 3:
        return labels[labels.index("s3") + 1]
    return _DEFAULT_REGION
