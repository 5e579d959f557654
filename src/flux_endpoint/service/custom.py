"""Endpoints of one's own: any JSON in, any JSON out, served by a handler somewhere else."""

from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any, Final, NoReturn

from jsonschema_rs import Draft202012Validator, ValidationError, meta

from flux_endpoint.core.endpoint import PricedInput
from flux_endpoint.core.errors import Conflict, InvalidParameter
from flux_endpoint.core.job import POSTED, Completed, Failed, Job, JobStatus
from flux_endpoint.core.pricing import COST_QUANTUM_USD, Price, PriceUnit

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

    readme = ""
    example_prompts = ()
    makes_pictures = False
    loras = ()
    is_embedded = False
    example_input = None

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
        self.price = Price(usd_per_job.quantize(COST_QUANTUM_USD), PriceUnit.JOB)
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
    def input_schema(self) -> Mapping[str, Any]:
        """See `EndpointSpec.input_schema`."""
        return {"type": "object"} if self._input_schema is None else self._input_schema

    @property
    def accepted_schema(self) -> Mapping[str, Any]:
        """See `EndpointSpec.accepted_schema`; a schema with references accepts more than this says."""
        declared = {} if any(_references(self.input_schema)) else self.input_schema
        return {**declared, "type": "object"}

    def __reduce__(self) -> tuple[type["CustomEndpoint"], tuple[Any, ...]]:
        # The validator cannot travel to another process; it is made again there.
        parts = (self._endpoint_id, self._display_name, self.description, self.price.usd, self._input_schema)
        return CustomEndpoint, parts

    def accept(self, fields: Mapping[str, Any], *, any_size: bool = False) -> PricedInput:
        """See `EndpointSpec.accept`; the worker gets what the client sent, unchanged."""
        if self._validator is not None:
            try:
                self._validator.validate(fields)
            except ValidationError as error:
                raise InvalidParameter(*_explain(error)) from None
        return PricedInput(fields, self.price.usd)

    def finish(self, job: Job, picture: int | None) -> PricedInput:
        """See `EndpointSpec.finish`: what a handler does cannot be stopped and gone on with."""
        raise Conflict(f"{self.endpoint_id} makes no drafts, so that there is nothing to finish")

    def conclude(self, job: Job, output: Any) -> Completed | Failed:
        """See `EndpointSpec.conclude`: whatever the handler returned, also nothing."""
        return Completed(output)

    def present(self, job: Job, images_url: str) -> Any:
        """See `EndpointSpec.present`: what the handler posted or returned, as it is."""
        return (job.progress or {}).get(POSTED) if job.status is JobStatus.IN_PROGRESS else job.output


def _validator(schema: Mapping[str, Any]) -> Draft202012Validator:
    try:
        meta.validate(dict(schema))
    except ValidationError as error:
        place = ".".join(str(part) for part in error.instance_path)
        raise ValueError(f"{f'at {place}: ' if place else ''}{error.message[:_MAX_PROBLEM_CHARS]}") from None
    for reference in _references(schema):
        # The library would fetch it, over the network or from the disk.
        if not reference.startswith("#"):
            raise ValueError(f"$ref {reference[:100]!r} leads out of the schema")
    try:
        return Draft202012Validator(dict(schema), retriever=_fetch_nothing)
    except ValidationError as error:
        # The rest has been checked: what is left are references.
        raise ValueError(f"a $ref leads nowhere: {error.message}"[:_MAX_PROBLEM_CHARS]) from None


def _fetch_nothing(uri: str) -> NoReturn:
    raise ValueError(f"{uri[:100]!r} leads out of the schema")


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
    path = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in error.instance_path)
    field = path.removeprefix(".") or "input"
    keyword, limit = error.kind.name, error.kind.value
    match keyword:
        case "required":
            return (limit if field == "input" else f"{field}.{limit}"), "is required"
        case "type":
            return field, f"must be {' or '.join(_TYPES[kind] for kind in limit)}"
        case "enum":
            return field, f"must be one of {', '.join(repr(value) for value in limit)}"[:_MAX_PROBLEM_CHARS]
        case _ if keyword in _DEMANDS:
            return field, _DEMANDS[keyword].format(limit)
        case _:
            # The library's own words repeat the value, which may be long.
            return field, f"is not as its schema wants it: {error.message}"[:_MAX_PROBLEM_CHARS]
