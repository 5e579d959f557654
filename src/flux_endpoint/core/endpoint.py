"""What an endpoint is: how a client's input becomes a job, and what a worker must return for it."""

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final, Protocol, runtime_checkable

from flux_endpoint.core.catalog import CATALOG, ModelSpec
from flux_endpoint.core.generation import parse_input
from flux_endpoint.core.job import Completed, Failed
from flux_endpoint.core.pricing import image_cost_usd
from flux_endpoint.core.raw_json import RawJson


@dataclass(frozen=True, slots=True)
class PricedInput:
    """A client's input, accepted: what the worker gets, and what its job will cost when it is COMPLETED."""

    input: Mapping[str, Any] | RawJson
    cost_usd: Decimal


class EndpointSpec(Protocol):
    """One endpoint of a gateway. The services know no other kind of endpoint than this."""

    @property
    def endpoint_id(self) -> str:
        """The id in the URL."""
        ...

    @property
    def display_name(self) -> str:
        """For people."""
        ...

    @property
    def input_schema(self) -> Mapping[str, Any] | None:
        """JSON schema of `input`, where the operator gave one."""
        ...

    def accept(self, fields: Mapping[str, Any]) -> PricedInput:
        """Check a client's `input` and price it.

        Raises:
            InvalidParameter: the first field that is wrong, with its limit.
        """
        ...

    def conclude(self, output: Any) -> Completed | Failed:
        """What a worker's `output` makes of its job; `output` is any JSON value, None when there was none."""
        ...


@runtime_checkable
class JobPricedEndpoint(EndpointSpec, Protocol):
    """An endpoint of any JSON, at one price a job; what people can be told about it."""

    description: str
    usd_per_job: Decimal
    input_schema: Mapping[str, Any] | None


@dataclass(frozen=True, slots=True)
class FluxEndpoint:
    """An endpoint that draws pictures with one model of the catalogue. Implements `EndpointSpec`."""

    model: ModelSpec

    @property
    def endpoint_id(self) -> str:
        """See `EndpointSpec.endpoint_id`."""
        return self.model.endpoint_id

    @property
    def display_name(self) -> str:
        """See `EndpointSpec.display_name`."""
        return self.model.display_name

    @property
    def input_schema(self) -> Mapping[str, Any] | None:
        """See `EndpointSpec.input_schema`; the limits of a model are in the catalogue."""
        return None

    def accept(self, fields: Mapping[str, Any]) -> PricedInput:
        """See `EndpointSpec.accept`; a seed of -1 becomes a drawn one here."""
        request = parse_input(fields, self.model)
        return PricedInput(request.to_input(), image_cost_usd(self.model, request.width, request.height))

    def conclude(self, output: Any) -> Completed | Failed:
        """See `EndpointSpec.conclude`; without a picture the job FAILED, because it would be charged for nothing."""
        if isinstance(output, Mapping):
            if "image_key" in output:
                # The names of pictures kept here are the gateway's own words: it has none from this worker.
                return Failed("the worker named a picture that it has not handed in")
            if isinstance(output.get("image_url"), str):
                return Completed(output)
        return Failed("the worker returned no picture")


FLUX_ENDPOINTS: Final[Mapping[str, EndpointSpec]] = {
    endpoint_id: FluxEndpoint(model) for endpoint_id, model in CATALOG.items()
}
