"""Names that nobody can guess or mint twice."""

import base64
import re
import secrets

from flux_endpoint.core.image_formats import IMAGE_FORMATS, ImageFormat

# 32 bytes: as hard to guess as the key of a cipher.
_SECRET_BYTES = 32
_KEY_PREFIX = "fxe_"
_WORKER_TOKEN_PREFIX = "fxw_"
_IMAGE_KEY_PATTERN = re.compile(r"[A-Za-z0-9_-]{20,64}\.([a-z0-9]+)")


def new_api_key() -> str:
    """A secret for clients; starts with `fxe_` so that leaks can be searched for."""
    return _KEY_PREFIX + secrets.token_urlsafe(_SECRET_BYTES)


def new_worker_token() -> str:
    """A secret for workers; starts with `fxw_`."""
    return _WORKER_TOKEN_PREFIX + secrets.token_urlsafe(_SECRET_BYTES)


def new_key_id() -> str:
    """A short public name for an API key: safe in logs and listings."""
    return secrets.token_hex(6)


def new_webhook_id() -> str:
    """The name of one webhook message; starts with `msg_`."""
    return f"msg_{secrets.token_hex(12)}"


def new_webhook_secret() -> str:
    """A secret to sign webhooks with, in the form of the Standard Webhooks scheme: `whsec_<base64>`."""
    return "whsec_" + base64.b64encode(secrets.token_bytes(_SECRET_BYTES)).decode()


def new_image_key(extension: str) -> str:
    """The name of stored picture bytes. Whoever holds it may see the picture, so it cannot be guessed.

    Args:
        extension: of its format.
    """
    return f"{secrets.token_urlsafe(_SECRET_BYTES)}.{extension}"


def format_of_image_key(name: str) -> ImageFormat | None:
    """The format of the picture of that name; None for what `new_image_key` makes no names like."""
    found = _IMAGE_KEY_PATTERN.fullmatch(name)
    return found and next((row for row in IMAGE_FORMATS.values() if row.extension == found[1]), None)


def is_image_key(name: str) -> bool:
    """Whether `name` has the form of `new_image_key`; everything else is refused before it reaches a disk."""
    return format_of_image_key(name) is not None
