"""Names that nobody can guess or mint twice."""

import base64
import secrets

# 32 bytes: as hard to guess as the key of a cipher.
_SECRET_BYTES = 32
_KEY_PREFIX = "fxe_"
_WORKER_TOKEN_PREFIX = "fxw_"


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
