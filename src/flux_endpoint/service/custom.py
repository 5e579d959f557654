"""Endpoints of one's own: any JSON in, any JSON out, served by a handler somewhere else."""

from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any, Final

from jsonschema import Draft202012Validator
from jsonschema.exceptions import SchemaError, ValidationError, best_match
from referencing import Registry, Resource
from referencing.exceptions import Unresolvable
from referencing.jsonschema import DRAFT202012

from flux_endpoint.core.endpoint import PricedInput
from flux_endpoint.core.errors import InvalidParameter
from flux_endpoint.core.job import Completed, Failed
from flux_endpoint.core.pricing import COST_QUANTUM_USD

_MAX_PROBLEM_CHARS: Final = 300
_TYPES: Final = {
    "object": "a JSON object",
    "array": "an array",
    "string": "a string",
    "number": "a number",
    "integer": "an integer",
    "boolean": "true or false",
    "null": "null",
}
# What each keyword of a schema demands, to be read after the name of a field.
_DEMANDS: Final = {
    "minimum": "must be at least {}",
    "maximum": "must be at most {}",
    "exclusiveMinimum": "must be above {}",
    "exclusiveMaximum": "must be below {}",
    "multipleOf": "must be divisible by {}",
    "minLength": "must have at least {} characters",
    "maxLength": "must have at most {} characters",
    "minItems": "must have at least {} items",
    "maxItems": "must have at most {} items",
    "pattern": "must match the pattern {}",
    "const": "must be {}",
}


class CustomEndpoint:
    """An endpoint declared by the operator. Implements `EndpointSpec`.

    Args:
        endpoint_id: the id in the URL.
        display_name: for people.
        description: for people; may be empty.
        usd_per_job: charged for each COMPLETED job.
        input_schema: JSON schema (draft 2020-12) of `input`; None accepts every object.

    Raises:
        ValueError: `input_schema` is no JSON schema, or refers to something outside itself.
    """

    def __init__(
        self,
        endpoint_id: str,
        display_name: str,
        description: str = "",
        usd_per_job: Decimal = Decimal(0),
        input_schema: Mapping[str, Any] | None = None,
    ) -> None:
        self._endpoint_id = endpoint_id
        self._display_name = display_name
        self.description = description
        self.usd_per_job = usd_per_job.quantize(COST_QUANTUM_USD)
        self._input_schema = input_schema
        self._validator = None if input_schema is None else _validator(input_schema)

    @property
    def endpoint_id(self) -> str:
        """See `EndpointSpec.endpoint_id`."""
        return self._endpoint_id

    @property
    def display_name(self) -> str:
        """See `EndpointSpec.display_name`."""
        return self._display_name

    @property
    def input_schema(self) -> Mapping[str, Any] | None:
        """See `EndpointSpec.input_schema`."""
        return self._input_schema

    def accept(self, fields: Mapping[str, Any]) -> PricedInput:
        """See `EndpointSpec.accept`; the worker gets what the client sent, unchanged."""
        if self._validator is not None:
            error = best_match(self._validator.iter_errors(fields))
            if error is not None:
                raise InvalidParameter(*_explain(error))
        return PricedInput(fields, self.usd_per_job)

    def conclude(self, output: Any) -> Completed | Failed:
        """See `EndpointSpec.conclude`: whatever the handler returned, also nothing."""
        return Completed(output)


def _validator(schema: Mapping[str, Any]) -> Draft202012Validator:
    try:
        Draft202012Validator.check_schema(schema)
    except SchemaError as error:
        place = ".".join(str(part) for part in error.absolute_path)
        raise ValueError(f"{f'at {place}: ' if place else ''}{error.message[:_MAX_PROBLEM_CHARS]}") from None
    # An empty registry: the library would otherwise fetch a reference to a URL over the network.
    registry: Registry[Any] = Registry()
    resolver = registry.resolver_with_root(Resource.from_contents(schema, default_specification=DRAFT202012))
    for reference in _references(schema):
        try:
            if not reference.startswith("#"):
                raise ValueError(f"$ref {reference[:100]!r} leads out of the schema")
            resolver.lookup(reference)
        except Unresolvable:
            raise ValueError(f"$ref {reference[:100]!r} leads nowhere") from None
    return Draft202012Validator(schema, registry=registry)


def _references(schema: Any) -> Iterator[str]:
    if isinstance(schema, Mapping):
        for name, value in schema.items():
            if name in ("$ref", "$dynamicRef") and isinstance(value, str):
                yield value
            yield from _references(value)
    elif isinstance(schema, list):
        for value in schema:
            yield from _references(value)


def _explain(error: ValidationError) -> tuple[str, str]:
    """The field that is wrong, and what is wrong with it."""
    field = error.json_path.removeprefix("$").removeprefix(".") or "input"
    keyword, limit = str(error.validator), error.validator_value
    match keyword:
        case "required":
            assert isinstance(error.instance, Mapping)
            missing = next(name for name in limit if name not in error.instance)
            return (missing if field == "input" else f"{field}.{missing}"), "is required"
        case "type":
            kinds = [limit] if isinstance(limit, str) else limit
            return field, f"must be {' or '.join(_TYPES[kind] for kind in kinds)}"
        case "enum":
            return field, f"must be one of {', '.join(repr(value) for value in limit)}"[:_MAX_PROBLEM_CHARS]
        case _ if keyword in _DEMANDS:
            return field, _DEMANDS[keyword].format(limit)
        case _:
            # The library's own words repeat the value, which may be long.
            return field, f"is not as its schema wants it: {error.message}"[:_MAX_PROBLEM_CHARS]
