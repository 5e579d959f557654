"""The catalogue of public endpoints, in the one question that Runpod's tools put to its GraphQL API."""

import asyncio
import functools
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Final

from starlette.responses import Response

from flux_endpoint.api import schemas
from flux_endpoint.api.admission import Everybody
from flux_endpoint.api.http import json_reply
from flux_endpoint.api.operations import Body, Call, Route
from flux_endpoint.api.schemas import JsonObject
from flux_endpoint.core.endpoint import EndpointSpec
from flux_endpoint.core.errors import InvalidRequest
from flux_endpoint.core.pricing import PriceUnit
from flux_endpoint.core.raw_json import decode_json

if TYPE_CHECKING:
    from graphql import GraphQLSchema

_LIMIT_BYTES: Final = 2**16
# The question has about twenty: what has many more is made to keep a server busy.
_MAX_TOKENS: Final = 200
_SDL: Final = """
type Query { allAiApiPublicConfigs: [AiApiPublicConfig!]! }
type AiApiPublicConfig {
  id: ID!
  aiApiId: String!
  modelName: String!
  displayName: String!
  description: String!
  "JSON: source, owner, tag, priceString, cost."
  metadata: String!
  isLive: Boolean!
  createdAt: String
  updatedAt: String
}
"""
_OWNER: Final = "black-forest-labs"


async def graphql(call: Call) -> Response:
    """`allAiApiPublicConfigs`: the endpoints that draw pictures, with prices. No key is asked for.

    Runpod's tools ask this to list public endpoints. There is nothing else in this schema.
    """
    body = decode_json(await call.read_body())
    query = body.get("query") if isinstance(body, Mapping) else None
    if not isinstance(query, str):
        raise InvalidRequest("Invalid request: the body must be a JSON object with the key 'query', a string")
    # Taking a question apart may take a while, in which others have their turn.
    return json_reply(await asyncio.to_thread(_answer, query, _configs(call.services.endpoints.specs)))


def _answer(query: str, configs: Sequence[JsonObject]) -> JsonObject:
    # Loaded for those who ask: no other client needs it.
    from graphql import GraphQLError, execute_sync, parse, validate

    schema = _schema()
    try:
        document = parse(query, max_tokens=_MAX_TOKENS)
    except GraphQLError as error:
        return {"errors": [error.formatted]}
    if errors := validate(schema, document):
        return {"errors": [error.formatted for error in errors]}
    return dict(execute_sync(schema, document, {"allAiApiPublicConfigs": configs}).formatted)


@functools.cache
def _schema() -> "GraphQLSchema":
    from graphql import build_schema

    return build_schema(_SDL)


def _configs(specs: Iterable[EndpointSpec]) -> list[JsonObject]:
    return [_config(spec) for spec in specs if spec.makes_pictures]


def _config(spec: EndpointSpec) -> JsonObject:
    unit = "per megapixel" if spec.price.unit is PriceUnit.MEGAPIXEL else "per picture"
    metadata = {
        "source": "image",
        "owner": _OWNER,
        "tag": "text-to-image",
        "cost": float(spec.price.usd),
        "priceString": f"${spec.price.usd} {unit}",
    }
    return {
        "id": spec.endpoint_id,
        "aiApiId": spec.endpoint_id,
        "modelName": spec.endpoint_id,
        "displayName": spec.display_name,
        "description": spec.description,
        "metadata": json.dumps(metadata),
        "isLive": True,
    }


_QUERY: Final = "{ allAiApiPublicConfigs { aiApiId displayName } }"
ROUTE: Final = Route(
    name="runpod_graphql",
    methods="POST",
    path="/graphql",
    access=Everybody(),
    handler=graphql,
    summary="The catalogue, by GraphQL",
    tag="catalogue",
    body=Body(
        _LIMIT_BYTES,
        {"type": "object", "required": ["query"], "properties": {"query": {"type": "string"}}},
        {"query": _QUERY},
    ),
    answers={
        200: schemas.json_response(
            "`data`, or `errors` where the question is none of this schema.",
            {"type": "object", "properties": {"data": {}, "errors": {"type": "array", "items": {"type": "object"}}}},
        ),
        400: schemas.json_response("The body has no `query`.", schemas.ERROR_SCHEMA),
        415: schemas.json_response("The body is packed in a way that is not understood.", schemas.ERROR_SCHEMA),
    },
)
