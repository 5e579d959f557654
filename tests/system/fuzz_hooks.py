"""What of generated requests is no matter of their schemas: loaded by schemathesis, see `test_fuzz.py`."""

import base64
import io
from typing import Any

import schemathesis
from PIL import Image
from schemathesis import GenerationMode

from flux_endpoint.core.inputs import INPUTS, OF_CONTROLNET

_NAMES = {row.name: {row.name, *row.aliases} for row in INPUTS}
# Refused, or of no use, by a server without LoRAs, Redux and ControlNet; masks need a picture of their size.
_NOT_HERE = set().union(*(_NAMES[name] for name in ("mask", "loras", "image_prompt", *OF_CONTROLNET)))
_LISTS = {"init_images"}
# Less than the steps of the picture, and none in a client's bucket: no schema says so.
_DRAFT = "stop_after"


def _picture() -> str:
    file = io.BytesIO()
    Image.new("L", (8, 8), 255).save(file, "PNG")
    return f"data:;base64,{base64.b64encode(file.getvalue()).decode()}"


_URL = _picture()


@schemathesis.hook
def before_call(context: schemathesis.HookContext, case: schemathesis.Case, kwargs: dict[str, Any]) -> None:
    """Make what is right by its schema a request that can be served: no schema says what is a picture."""
    if case.meta is not None and case.meta.generation.mode == GenerationMode.POSITIVE:
        case.body = _servable(case.body)


def _servable(body: Any) -> Any:
    """With a true picture to draw from, and without what cannot be served here."""
    if isinstance(body, list):
        return [_servable(one) for one in body]
    if isinstance(body, dict):
        return {name: _in_place_of(name, value) for name, value in body.items() if name not in _NOT_HERE | {_DRAFT}}
    return body


def _in_place_of(name: str, value: Any) -> Any:
    if name in _LISTS and isinstance(value, list) and value:
        return [_URL]
    return _URL if name in _NAMES["image"] and isinstance(value, str) and value else _servable(value)
