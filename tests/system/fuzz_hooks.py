"""What of generated requests is no matter of their schemas: loaded by schemathesis, see `test_fuzz.py`."""

import base64
import io
from typing import Any

import schemathesis
from jsonschema_rs import Draft202012Validator
from PIL import Image

from flux_endpoint.core.inputs import INPUTS
from flux_endpoint.core.lora import LoraList

_PICTURES = {name for row in INPUTS if row.name in ("image", "mask") for name in (row.name, *row.aliases)}
_LISTS = {"init_images"}
_LORAS = {name for row in INPUTS if row.name == "loras" for name in (row.name, *row.aliases)}
_ARE_LORAS = Draft202012Validator(LoraList().schema(""))


def _picture() -> bytes:
    file = io.BytesIO()
    Image.new("L", (8, 8), 255).save(file, "PNG")
    return file.getvalue()


_FILE = _picture()
_URL = f"data:;base64,{base64.b64encode(_FILE).decode()}"


@schemathesis.hook
def map_body(context: schemathesis.HookContext, body: Any) -> Any:
    """With true pictures to draw from, and without LoRAs: no schema says what is one, and which there are."""
    if isinstance(body, list):
        return [map_body(context, one) for one in body]
    if isinstance(body, dict):
        return {
            name: _true(name, value) or map_body(context, value)
            for name, value in body.items()
            if not _is_lora(name, value)
        }
    return body


def _is_lora(name: str, value: Any) -> bool:
    """Whether a field has LoRAs, as far as a schema can tell."""
    return name in _LORAS and value is not None and _ARE_LORAS.is_valid(value)


def _true(name: str, value: Any) -> Any:
    """A picture in place of something that the schema takes for one; None where it does not."""
    if name in _LISTS and isinstance(value, list) and value and isinstance(value[0], str):
        return [_URL, *value[1:]]
    if name not in _PICTURES or not value:
        return None
    return _URL if isinstance(value, str) else _FILE if isinstance(value, bytes) else None
