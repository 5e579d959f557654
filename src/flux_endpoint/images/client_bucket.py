"""Signed URLs of a bucket that a client named, made offline from the keys it sent."""

from datetime import timedelta
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

import obstore
from obstore.store import S3Store

from flux_endpoint.core.bucket import Bucket, region_of
from flux_endpoint.core.errors import BucketFailed
from flux_endpoint.images.protocol import SignedObject

if TYPE_CHECKING:
    # Exists for type checkers only.
    from obstore.store import S3Credential

# What Runpod's own helper grants: as long as a signature of this kind can last.
_READABLE_FOR: Final = timedelta(days=7)
# Far longer than an upload takes: on a machine whose clock is slow, a signature is old as soon as it is made.
_WRITABLE_FOR: Final = timedelta(hours=1)


def sign_object(bucket: Bucket, name: str, region: str | None = None) -> SignedObject:
    """Sign with the client's own keys. Implements `Sign`."""
    credentials: S3Credential = {
        "access_key_id": bucket.access_id,
        "secret_access_key": bucket.access_secret,
        "expires_at": None,
    }
    endpoint = bucket.endpoint_url.rstrip("/")
    try:
        host = urlsplit(endpoint).hostname or ""
        path = f"{bucket.prefix}/{name}" if bucket.prefix else name
        store = S3Store(
            bucket.name,
            endpoint=endpoint,
            region=region or region_of(bucket, host),
            # Every choice is spelt out: what is left open is read from the operator's AWS_* variables. With plain keys
            # the operator's own session token would be written into the client's URLs.
            credential_provider=lambda: credentials,
            virtual_hosted_style_request=host.startswith(bucket.name.lower() + "."),
            skip_signature=False,
            request_payer=False,
            s3_express=False,
            client_options={"allow_http": True},
        )
        put_url = obstore.sign(store, "PUT", path, _WRITABLE_FOR)
        get_url = obstore.sign(store, "GET", path, _READABLE_FOR)
    except Exception as error:
        # What the library raises for a name or URL that it cannot use is not documented: TypeError, for one.
        raise BucketFailed(
            f"{bucket.field}: no object can be named with it: {str(error).partition(chr(10))[0]}"
        ) from None
    return SignedObject(put_url, get_url)
