"""What of generated requests is no matter of their schemas: loaded by schemathesis, see `test_fuzz.py`."""

from typing import Any

import schemathesis

from flux_endpoint.core.inputs import INPUTS

_PICTURES = {name for row in INPUTS if row.name in ("image", "mask") for name in (row.name, *row.aliases)}


@schemathesis.hook
def map_body(context: schemathesis.HookContext, body: Any) -> Any:
    """Without pictures to draw from: no schema says where there is one."""
    if isinstance(body, list):
        return [map_body(context, one) for one in body]
    if isinstance(body, dict):
        return {
            name: "" if name in _PICTURES and isinstance(value, str) else map_body(context, value)
            for name, value in body.items()
        }
    return body
