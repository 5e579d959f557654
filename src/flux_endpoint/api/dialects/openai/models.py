"""The models of this server, as clients of this dialect list them."""

from starlette.responses import Response

from flux_endpoint.api.dialects.models import endpoint_of, model_name, picture_models
from flux_endpoint.api.http import json_reply
from flux_endpoint.api.operations import Call
from flux_endpoint.api.schemas import JsonObject
from flux_endpoint.core.account import ApiKey
from flux_endpoint.core.endpoint import EndpointSpec


async def models(call: Call, key: ApiKey) -> Response:
    """The models that draw pictures here and that the key opens."""
    opened = key.limits.endpoint_ids
    specs = picture_models(call.services.endpoints.specs)
    data = [_model(spec) for spec in specs if opened is None or spec.endpoint_id in opened]
    return json_reply({"object": "list", "data": data})


async def model(call: Call, key: ApiKey, name: str) -> Response:
    """One of them, by any of its names."""
    return json_reply(_model(endpoint_of(call.services.endpoints, key, name).spec))


def _model(spec: EndpointSpec) -> JsonObject:
    # Required by the clients' types; a model has no date here.
    return {"id": model_name(spec), "object": "model", "created": 0, "owned_by": "flux-endpoint"}
