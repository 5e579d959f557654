"""What an endpoint is: what is told about it, how a client's input becomes a job, and what clients see of that."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any, Final, Protocol

from flux_endpoint.core import readmes
from flux_endpoint.core.catalog import CATALOG, ModelFamily, ModelSpec
from flux_endpoint.core.controlnet import ControlNetKind
from flux_endpoint.core.drafts import KEPT_LATENTS, Draft, kept_in
from flux_endpoint.core.errors import InvalidParameter
from flux_endpoint.core.generation import GenerationRequest, parse_input, seeds_of
from flux_endpoint.core.inputs import OF_CONTROLNET, SIDE, input_schema, inputs_of, not_taken, or_null
from flux_endpoint.core.job import POSTED, Completed, Failed, Job, JobStatus
from flux_endpoint.core.lora import NO_LORAS, LoraList, LoraShelf, SentLora
from flux_endpoint.core.other_names import INPUT_NAMES, HeardInput, heard, other_schemas
from flux_endpoint.core.pricing import Price, image_cost_usd, share_usd
from flux_endpoint.core.raw_json import RawJson
from flux_endpoint.core.source_picture import PICTURES, SentFiles, SentPicture

# What says something of a picture, and of which.
NEED_A_PICTURE: Final = {
    "strength": ("image", "an image"),
    "image_prompt_scale": ("image_prompt", "an image_prompt"),
    **dict.fromkeys(OF_CONTROLNET[1:], ("control_image", "a control_image")),
}
_EXAMPLE_URLS: Final = {
    "image": "https://example.com/lake",
    "mask": "https://example.com/lake-mask",
    "control_image": "https://example.com/lake-map",
}


@dataclass(frozen=True, slots=True)
class PricedInput:
    """A client's input, accepted.

    Attributes:
        input: what the worker gets.
        cost_usd: what its job will cost when it is COMPLETED.
        warnings: what of it is not heeded, a sentence each.
        sent: the pictures that it is to be drawn from and the LoRAs to be fetched, which `input` is still without; None
            for none.
    """

    input: Mapping[str, Any] | RawJson
    cost_usd: Decimal
    warnings: tuple[str, ...] = ()
    sent: SentFiles | None = None


class EndpointSpec(Protocol):
    """One endpoint of a gateway. The floors above know no other kind of endpoint than this."""

    @property
    def endpoint_id(self) -> str:
        """The id in the URL."""
        ...

    @property
    def display_name(self) -> str:
        """For people."""
        ...

    @property
    def description(self) -> str:
        """One sentence for people; may be empty."""
        ...

    @property
    def readme(self) -> str:
        """What else people should know, in Markdown: paragraphs, lists, bold and code. May be empty."""
        ...

    @property
    def example_prompts(self) -> Sequence[str]:
        """Prompts to begin with; none where the input has no prompt."""
        ...

    @property
    def price(self) -> Price:
        """What is charged for a COMPLETED job."""
        ...

    @property
    def makes_pictures(self) -> bool:
        """Whether prompts come in and pictures go out."""
        ...

    @property
    def loras(self) -> Sequence[str]:
        """Names of the LoRAs that may be asked for."""
        ...

    @property
    def is_embedded(self) -> bool:
        """Whether the small model of this package does its jobs."""
        ...

    @property
    def input_schema(self) -> Mapping[str, Any]:
        """JSON schema of `input`, as people and forms should read it."""
        ...

    @property
    def accepted_schema(self) -> Mapping[str, Any]:
        """JSON schema of every `input` that `accept` takes, as far as it can be told without references."""
        ...

    @property
    def example_input(self) -> Mapping[str, Any] | None:
        """An `input` that is accepted; None where none is known."""
        ...

    def accept(self, fields: Mapping[str, Any], *, any_size: bool = False) -> PricedInput:
        """Check a client's `input` and price it.

        Args:
            fields: as they were sent; in place of pictures to draw from there may be a `SourcePicture` each.
            any_size: whether the sides of a picture need be no multiple of anything, as in most dialects.

        Raises:
            InvalidParameter: the first field that is wrong, with its limit.
        """
        ...

    def finish(self, job: Job, picture: int | None) -> PricedInput:
        """What a job does that goes on where a draft of this endpoint stopped, to the last step.

        Args:
            job: that drew the draft.
            picture: see `drafts.kept_in`; so for what is raised.

        Raises:
            Conflict: there is nothing to go on from.
            InvalidParameter: `picture` is none of the draft's.
        """
        ...

    def conclude(self, job: Job, output: Any) -> Completed | Failed:
        """What a worker's `output` makes of its job; `output` is any JSON value, None when there was none."""
        ...

    def present(self, job: Job, images_url: str) -> Any:
        """What a client sees as the output of a job that a worker has begun or ended; None for nothing.

        Args:
            job: of this endpoint.
            images_url: what links to pictures that are kept here start with; empty for their keys alone.
        """
        ...


@dataclass(frozen=True, slots=True)
class FluxEndpoint:
    """An endpoint that draws pictures with one model of the catalogue. Implements `EndpointSpec`."""

    model: ModelSpec
    is_embedded: bool = False
    shelf: LoraShelf = NO_LORAS
    has_redux: bool = False
    controlnet: ControlNetKind | None = None

    @property
    def endpoint_id(self) -> str:
        """See `EndpointSpec.endpoint_id`."""
        return self.model.endpoint_id

    @property
    def display_name(self) -> str:
        """See `EndpointSpec.display_name`."""
        return self.model.display_name

    @property
    def description(self) -> str:
        """See `EndpointSpec.description`."""
        return self.model.description

    @property
    def readme(self) -> str:
        """See `EndpointSpec.readme`."""
        return readmes.readme(self.model.family, is_embedded=self.is_embedded)

    @property
    def example_prompts(self) -> Sequence[str]:
        """See `EndpointSpec.example_prompts`."""
        return readmes.EMBEDDED_EXAMPLES if self.is_embedded else readmes.EXAMPLES[self.model.family]

    @property
    def price(self) -> Price:
        """See `EndpointSpec.price`."""
        return self.model.price

    @property
    def makes_pictures(self) -> bool:
        """See `EndpointSpec.makes_pictures`."""
        return True

    @property
    def loras(self) -> Sequence[str]:
        """See `EndpointSpec.loras`."""
        return self.shelf.names

    @property
    def input_schema(self) -> Mapping[str, Any]:
        """See `EndpointSpec.input_schema`."""
        return input_schema(self.model, has_redux=self.has_redux, controlnet=self.controlnet)

    @property
    def accepted_schema(self) -> Mapping[str, Any]:
        """See `EndpointSpec.accepted_schema`: null counts as absent."""
        schema = input_schema(self.model, has_redux=self.has_redux, controlnet=self.controlnet)
        required = schema["required"]
        fields = {name: one if name in required else or_null(one) for name, one in schema["properties"].items()}
        sides = "|".join(str(side) for side in range(SIDE.minimum, SIDE.maximum + 1, SIDE.multiple_of))
        return schema | {"properties": fields | other_schemas(schema["properties"], f"({sides})")}

    @property
    def example_input(self) -> Mapping[str, Any]:
        """See `EndpointSpec.example_input`."""
        preset = {row.name: kind.default for row, kind in inputs_of(self.model)}
        shown = {name: preset[name] for name in ("width", "height", "num_inference_steps")}
        needed = {name: _EXAMPLE_URLS[name] for name in _EXAMPLE_URLS if preset.get(name, "") is None}
        return {"prompt": "A serene mountain landscape at sunset"} | needed | shown | {"seed": 42}

    def accept(self, fields: Mapping[str, Any], *, any_size: bool = False) -> PricedInput:
        """See `EndpointSpec.accept`; a seed of -1 becomes a drawn one here."""
        said = None if fields.keys() <= INPUT_NAMES else heard(fields)
        try:
            request = parse_input(
                fields if said is None else said.inputs,
                self.model,
                any_size=any_size,
                shelf=self.shelf,
                has_redux=self.has_redux,
                controlnet=self.controlnet,
            )
            if said is not None and said.beside:
                self._check_beside(said.beside, any_size=any_size)
        except InvalidParameter as error:
            raise error if said is None else said.in_their_words(error) from None
        cost_usd = self._cost_usd(request) * request.num_images
        accepted = PricedInput(request.to_input(), cost_usd, () if said is None else said.warnings)
        inputs, sent_as = (fields, {}) if said is None else (said.inputs, said.sent_as)
        if not inputs.keys().isdisjoint(not_taken(self.model)):
            accepted = replace(accepted, warnings=accepted.warnings + self._not_heeded(inputs, sent_as))
        pictures = self._pictures_in(inputs, sent_as) if any(map(inputs.get, PICTURES)) else {}
        if inputs.get("image"):
            accepted = replace(accepted, warnings=accepted.warnings + self._nothing_kept(request, sent_as))
        for name, (picture, words) in NEED_A_PICTURE.items():
            if inputs.get(name) is not None and not inputs.get(picture) and name not in not_taken(self.model):
                told = f"{sent_as.get(name, name)} has no effect without {words}"
                accepted = replace(accepted, warnings=(*accepted.warnings, told))
        loras = () if all(lora.sha256 for lora in request.loras) else self._loras_elsewhere(inputs, said)
        if pictures or loras:
            return replace(accepted, sent=SentFiles(fields, any_size, pictures, loras))
        return accepted

    def _not_heeded(self, inputs: Mapping[str, Any], sent_as: Mapping[str, str]) -> tuple[str, ...]:
        """A sentence for each input of other models that was sent."""
        idle = (name for name in not_taken(self.model) if inputs.get(name) is not None)
        return tuple(f"{sent_as.get(name, name)} has no effect on {self.display_name}" for name in idle)

    def _nothing_kept(self, request: GenerationRequest, sent_as: Mapping[str, str]) -> tuple[str, ...]:
        """A sentence where few steps make of a strength below 1 as much as 1, which starts from noise alone."""
        steps, family = request.num_inference_steps, self.model.family
        has_all = request.strength < 1 and request.whole_steps == steps
        if not has_all or "strength" in not_taken(self.model) or family is ModelFamily.FILL:
            return ()
        strength, image = (sent_as.get(name, name) for name in ("strength", "image"))
        drawn = f"all {steps} steps" if steps > 1 else "the only step"
        advice = f" ({(steps - 1) * 100 // steps / 100:g} keeps some)" if steps > 1 else ""
        told = f"{strength} {request.strength:g} draws {drawn}, as 1 does: nothing of {image} is kept{advice}"
        return (told,)

    def _cost_usd(self, request: GenerationRequest) -> Decimal:
        """Of one picture; of a draft its share, so that with what finishes it, it costs as much as in one go."""
        whole_usd = image_cost_usd(self.model.price, request.width, request.height)
        if request.draft:
            return whole_usd - share_usd(whole_usd, request.draft.steps, request.whole_steps)
        return share_usd(whole_usd, request.stop_after, request.whole_steps) if request.stop_after else whole_usd

    def finish(self, job: Job, picture: int | None) -> PricedInput:
        """See `EndpointSpec.finish`; the price is what the draft has left of that of the whole picture."""
        kept = kept_in(job, picture)
        drafted = GenerationRequest.from_input(job.fields).pictures[(picture or 1) - 1]
        request = drafted.finishing(Draft(kept.key, kept.sha256, drafted.stop_after))
        return PricedInput(request.to_input(), self._cost_usd(request))

    def _pictures_in(self, inputs: Mapping[str, Any], sent_as: Mapping[str, str]) -> dict[str, SentPicture]:
        """The pictures that are still where the client has them."""
        return {
            name: SentPicture(sent_as.get(name, name), inputs[name])
            for name in PICTURES
            if isinstance(inputs.get(name), str) and inputs[name] and name not in not_taken(self.model)
        }

    def _loras_elsewhere(self, inputs: Mapping[str, Any], said: HeardInput | None) -> tuple[SentLora, ...]:
        """The LoRAs that must be fetched, by the names of their entries as the client knows them."""
        elsewhere = []
        for index, lora in enumerate(LoraList().read("loras", inputs)):
            if self.shelf.find(lora.path, lora.sha256) is None:
                entry = InvalidParameter(f"loras[{index}].path", "")
                field = entry.field if said is None else said.in_their_words(entry).field
                elsewhere.append(SentLora(field, lora.path, lora.sha256))
        return tuple(elsewhere)

    def _check_beside(self, beside: Mapping[str, tuple[str, Any]], *, any_size: bool) -> None:
        """What does not count must be right all the same: whoever sends it has not meant what is drawn."""
        kinds = {row.name: kind for row, kind in inputs_of(self.model, any_size=any_size)}
        for alias, (name, value) in beside.items():
            if name in kinds:
                kinds[name].read(alias, {alias: value})

    def conclude(self, job: Job, output: Any) -> Completed | Failed:
        """See `EndpointSpec.conclude`; without its pictures the job FAILED: it would be charged for nothing."""
        if not isinstance(output, Mapping):
            return Failed("the worker returned no picture")
        if {"image_key", "image_keys", KEPT_LATENTS} & output.keys():
            # The names of pictures kept here are the gateway's own words: it has none from this worker.
            return Failed("the worker named a picture that it has not handed in")
        if not isinstance(output.get("image_url"), str):
            return Failed("the worker returned no picture")
        fields = job.fields
        asked, images = fields.get("num_images", 1), output.get("images")
        if asked > 1 and not (isinstance(images, list) and len(images) == asked):
            return Failed(f"the job has {asked} pictures, and the worker did not return so many as 'images'")
        return Completed(output)

    def present(self, job: Job, images_url: str) -> Any:
        """See `EndpointSpec.present`."""
        if job.status is JobStatus.IN_PROGRESS:
            posted = (job.progress or {}).get(POSTED)
            # The AI SDK, made for pictures, breaks off at an output that is no object.
            return _without_cost(posted) if isinstance(posted, Mapping) else None
        if job.status is not JobStatus.COMPLETED:
            return _without_cost(job.output) if isinstance(job.output, Mapping) else job.output
        output = {name: value for name, value in job.output.items() if name != KEPT_LATENTS}
        if job.warnings:
            told = output.get("warnings")
            output["warnings"] = [*job.warnings, *(told if isinstance(told, list) else ())]
        key = output.pop("image_key", None)
        if "image_keys" in output:
            output["images"] = [f"{images_url}{each}" for each in output.pop("image_keys")]
            output["image_url"] = output["images"][0]
        # Not of ours: it lies in the client's bucket, or a third-party worker put it somewhere.
        url = output.get("image_url") if key is None else f"{images_url}{key}"
        cost = {"cost": float(job.cost_usd)}
        fields = job.fields
        if url is None or "seed" not in fields:
            return output | cost
        # The documentation promises image_url, the live service sends result: clients read either.
        known = {"image_url": url, "result": url} | cost | {"seed": fields["seed"]}
        if "num_images" in fields:
            known["seeds"] = list(seeds_of(fields["seed"], fields["num_images"]))
        # Whatever else a worker says. Of what we know, nothing.
        return known | output | known


def _without_cost(output: Mapping[str, Any]) -> dict[str, Any]:
    # Only what is COMPLETED costs anything, and only we know what.
    return {name: value for name, value in output.items() if name != "cost"}


FLUX_ENDPOINTS: Final[Mapping[str, EndpointSpec]] = {
    endpoint_id: FluxEndpoint(model) for endpoint_id, model in CATALOG.items()
}
