"""What the pictures of one job are made from: a request that is valid by construction."""

import secrets
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final

from flux_endpoint.core.acceleration import Acceleration
from flux_endpoint.core.catalog import ModelFamily, ModelSpec
from flux_endpoint.core.controlnet import ControlMode, ControlNetKind
from flux_endpoint.core.drafts import Draft
from flux_endpoint.core.errors import InvalidParameter, InvalidRequest
from flux_endpoint.core.image_formats import IMAGE_FORMATS, ImageFormat, either
from flux_endpoint.core.input_kinds import MAX_SEED, RANDOM_SEED, Kind
from flux_endpoint.core.inputs import OF_CONTROLNET, defaults_of, inputs_of
from flux_endpoint.core.lora import NO_LORAS, Lora, LoraShelf, look_up
from flux_endpoint.core.negative_mode import STRENGTHS, NegativeMode
from flux_endpoint.core.shapes import sides_like
from flux_endpoint.core.source_picture import PICTURES, SourcePicture, steps_left


@dataclass(frozen=True, slots=True)
class GenerationRequest:
    """The parameters of one picture, or of several that differ in their seeds.

    Attributes:
        width: pixels of the file.
        height: pixels of the file.
        guidance: distilled guidance; without effect on schnell.
        true_cfg_scale: strength of the negative prompt; without effect when that is empty.
        negative_mode: how it acts; that of jobs from before there was a choice where there is none.
        seed: concrete, 0 to `MAX_SEED`: the same request always draws the same picture.
        acceleration: none in jobs from before there were levels.
        image: to start from; None for noise alone.
        mask: where `image` is drawn anew; None for everywhere. Never without `image`.
        control_image: the map to draw along; None for none.
        control_mode: its kind, the value of a `ControlMode`, for a ControlNet that reads several; None for others.
        control_scale: what a ControlNet's numbers are multiplied by, 0 to 2; None, as the next two, for models that
            read maps themselves and where there is no map.
        control_start: share of the steps, 0 to 1, from which it acts.
        control_end: share of the steps, `control_start` to 1, up to which it acts.
        strength: how much of `image` is lost in noise first, 0 to 1; without effect where there is none.
        image_prompt: read by Redux beside the words; None for words alone.
        image_prompt_scale: what its numbers are multiplied by, 0 to 1; without effect where there is none.
        num_images: how many pictures; the first has `seed`, each other one the seed after it.
        loras: what changes the model, each with the hash of its file, in the order of `lora.look_up`.
        stop_after: after how many of its steps to stop, and to show what the picture would become; 0 for its end.
        draft: where to go on; None to begin. Never with `stop_after`, nor of several pictures.
    """

    prompt: str
    negative_prompt: str
    width: int
    height: int
    num_inference_steps: int
    guidance: float
    true_cfg_scale: float
    seed: int
    image_format: ImageFormat
    acceleration: Acceleration = Acceleration.NONE
    image: SourcePicture | None = None
    mask: SourcePicture | None = None
    strength: float = 1.0
    image_prompt: SourcePicture | None = None
    image_prompt_scale: float = 1.0
    num_images: int = 1
    loras: tuple[Lora, ...] = ()
    negative_mode: NegativeMode = NegativeMode.CFG
    stop_after: int = 0
    draft: Draft | None = None
    control_image: SourcePicture | None = None
    control_mode: str | None = None
    control_scale: float | None = None
    control_start: float | None = None
    control_end: float | None = None

    @property
    def has_negative(self) -> bool:
        """Whether its negative prompt acts."""
        return bool(self.negative_prompt) and self.true_cfg_scale > 1

    @property
    def pictures(self) -> "tuple[GenerationRequest, ...]":
        """A request for each of its pictures alone, which draws the same bytes."""
        if self.num_images == 1:
            return (self,)
        return tuple(replace(self, seed=seed, num_images=1) for seed in seeds_of(self.seed, self.num_images))

    @property
    def whole_steps(self) -> int:
        """The steps from its beginning to its end: without those that `image` stands for."""
        return steps_left(self.num_inference_steps, self.strength)

    @property
    def steps_done(self) -> int:
        """How many of these were drawn as a draft."""
        return self.draft.steps if self.draft else 0

    @property
    def steps_to_draw(self) -> int:
        """How many of these are to be drawn."""
        return (self.stop_after or self.whole_steps) - self.steps_done

    def finishing(self, draft: Draft) -> "GenerationRequest":
        """The request that draws what a draft of this one has left out: all but `draft` is as if it had not stopped."""
        return replace(self, stop_after=0, draft=draft)

    def to_input(self) -> dict[str, Any]:
        """The request as the `input` object that `parse_input` reads back to an equal request."""
        fields = {name: getattr(self, name) for name in self.__slots__}
        fields |= {"image_format": self.image_format.name, "acceleration": self.acceleration.value}
        fields["negative_mode"] = self.negative_mode.value
        unsaid = {
            "negative_mode": not self.negative_prompt,
            "num_images": self.num_images == 1,
            "stop_after": not self.stop_after,
            "draft": self.draft is None,
            "loras": not self.loras,
            "image_prompt": self.image_prompt is None,
            "image_prompt_scale": self.image_prompt is None,
            "control_image": self.control_image is None,
            "control_mode": self.control_mode is None,
            "control_scale": self.control_scale is None,
            "control_start": self.control_start is None,
            "control_end": self.control_end is None,
            "image": self.image is None,
            "mask": self.image is None,
            "strength": self.image is None,
        }
        # In most jobs nearly all of them: their rows stay as short as they are.
        for name, is_unsaid in unsaid.items():
            if is_unsaid:
                del fields[name]
        for name in ("draft", *PICTURES):
            if fields.get(name):
                fields[name] = fields[name].to_input()
        if self.loras:
            fields["loras"] = [lora.to_input() for lora in self.loras]
        return fields

    @classmethod
    def from_input(cls, fields: Mapping[str, Any]) -> "GenerationRequest":
        """Read back what `to_input` wrote; nothing is checked again and nothing is filled in.

        Raises:
            InvalidRequest: a field is missing or unknown, or the format is none of ours: this is no such object.
        """
        try:
            level = Acceleration(fields.get("acceleration", Acceleration.NONE))
            read: dict[str, Any] = {"image_format": IMAGE_FORMATS[fields["image_format"]], "acceleration": level}
            read["negative_mode"] = NegativeMode(fields.get("negative_mode", NegativeMode.CFG))
            read |= {name: SourcePicture.from_input(fields[name]) for name in PICTURES if name in fields}
            if "loras" in fields:
                read["loras"] = tuple(Lora.from_input(one) for one in fields["loras"])
            if "draft" in fields:
                read["draft"] = Draft.from_input(fields["draft"])
            return cls(**{**fields, **read})
        except (KeyError, TypeError, ValueError) as error:
            raise InvalidRequest(f"Invalid request: not a complete FLUX job: {error}") from None


# Draws a seed.
random_seed: Final[Callable[[], int]] = partial(secrets.randbelow, MAX_SEED + 1)
_OF_CONTROLNET: Final = frozenset(OF_CONTROLNET)
# Nothing to choose: requests that are equal but for this are one.
_WITHOUT_NEGATIVE: Final = {"negative_mode": NegativeMode.CFG}
_WITHOUT_IMAGE_PROMPT: Final = {"image_prompt_scale": 1.0}
_WITHOUT_CONTROLNET: Final = dict.fromkeys(OF_CONTROLNET[1:])


def seeds_of(first: int, num_images: int) -> tuple[int, ...]:
    """The seeds of the pictures of one job, one after another; after `MAX_SEED` comes 0."""
    return tuple((first + number) % (MAX_SEED + 1) for number in range(num_images))


def parse_input(
    fields: Mapping[str, Any],
    spec: ModelSpec,
    draw_seed: Callable[[], int] = random_seed,
    *,
    any_size: bool = False,
    shelf: LoraShelf = NO_LORAS,
    has_redux: bool = False,
    controlnet: ControlNetKind | None = None,
) -> GenerationRequest:
    """Check inputs against a model's limits and fill in its defaults.

    Nothing is read but the names of the table of inputs: for what else a client sends there is `other_names.heard`.
    Null counts as absent, but for the prompt. A seed of -1 is replaced by a drawn one here, so that a re-run after a
    lost worker draws the same picture. A picture that is sent and not kept yet is checked in form, and left out.

    Args:
        fields: what was sent, by the names of the table of inputs.
        spec: the model that is to draw.
        draw_seed: gives a seed from 0 to `MAX_SEED`.
        any_size: whether sides need be no multiple of 64.
        shelf: where LoRAs are looked up by name.
        has_redux: whether the model reads pictures as prompts.
        controlnet: what is loaded beside the model to draw along maps; None for nothing.

    Raises:
        InvalidParameter: the first field that is wrong, in the order of the table of inputs.
    """
    sent: dict[str, Kind] = {}
    complete: dict[str, Any] = {}
    for row, kind in inputs_of(spec, any_size=any_size):
        value = fields.get(row.name)
        if value is not None or kind.default is None:
            sent[row.name] = kind
        if value is None:
            value = kind.default
        if value is not None or row.name in fields:
            complete[row.name] = value
    # Defaults are right: only what was sent is checked.
    values = {**defaults_of(spec), **{name: kind.read(name, complete) for name, kind in sent.items()}}
    if values.get("image") is None:
        # Of nothing.
        values.pop("strength", None)
    is_along_map = not _OF_CONTROLNET.isdisjoint(sent)
    values |= _with_controlnet(values, sent, spec.family, controlnet) if is_along_map else _WITHOUT_CONTROLNET
    if any(map(values.get, PICTURES)):
        values |= _with_pictures(values, fields, spec.family)
    prompt = values.get("image_prompt")
    values |= _WITHOUT_IMAGE_PROMPT if prompt is None else _with_image_prompt(prompt, has_redux)
    values |= _with_negative(values, sent) if values.get("negative_prompt") else _WITHOUT_NEGATIVE
    if values["seed"] == RANDOM_SEED:
        values["seed"] = draw_seed()
    if values["loras"]:
        values["loras"] = look_up("loras", values["loras"], shelf)
    request = GenerationRequest(**values)
    if request.stop_after and request.stop_after >= request.whole_steps:
        limit = f"must be below the {request.whole_steps} steps of the picture, or 0 for no draft"
        raise InvalidParameter("stop_after", limit)
    return request


def _with_negative(values: Mapping[str, Any], sent: Collection[str]) -> dict[str, Any]:
    """The strength of a negative prompt where the client leaves that to its mode."""
    return {} if "true_cfg_scale" in sent else {"true_cfg_scale": STRENGTHS[values["negative_mode"]]}


def _with_image_prompt(picture: object, has_redux: bool) -> dict[str, Any]:
    if not has_redux:
        raise InvalidParameter("image_prompt", "needs FLUX.1 Redux, which is not loaded here (setting REDUX_MODEL)")
    return {"image_prompt": _kept(picture)}


def _with_controlnet(
    values: Mapping[str, Any], sent: Collection[str], family: ModelFamily, controlnet: ControlNetKind | None
) -> dict[str, Any]:
    """What steers a ControlNet, of which something was sent; nothing of it acts without a map."""
    if not family.takes_controlnet:
        # It reads the map itself.
        return _WITHOUT_CONTROLNET
    if controlnet is None:
        # An empty name of a picture or of a mode asks for nothing.
        asked = [name for name in OF_CONTROLNET if name in sent and values[name] is not None]
        if asked:
            raise InvalidParameter(asked[0], "needs a ControlNet, which is not loaded here (setting CONTROLNET_MODEL)")
    if values["control_image"] is None:
        return _WITHOUT_CONTROLNET
    if controlnet is ControlNetKind.UNION and values["control_mode"] is None:
        modes = either(list(ControlMode))
        raise InvalidParameter("control_mode", f"is required by the ControlNet that is loaded here: {modes}")
    if controlnet is ControlNetKind.SINGLE and values["control_mode"] is not None:
        raise InvalidParameter("control_mode", "is not taken: the ControlNet that is loaded here reads one kind of map")
    if values["control_start"] > values["control_end"]:
        raise InvalidParameter("control_start", "must not be above control_end")
    return {}


def _with_pictures(values: Mapping[str, Any], fields: Mapping[str, Any], family: ModelFamily) -> dict[str, Any]:
    """The pictures that are kept, and the size of the result where the client leaves that to them."""
    if values.get("image") is None and values.get("mask") is not None:
        raise InvalidParameter("mask", "needs an image that it is for")
    kept = {name: _kept(values.get(name)) for name in ("image", "mask", "control_image")}
    image = kept["image"] or kept["control_image"]
    if image is None or family is ModelFamily.KONTEXT:
        # Kontext's result has a size of its own, as on Runpod.
        return kept
    asked = [None if fields.get(name) is None else values[name] for name in ("width", "height")]
    width, height = sides_like((image.width, image.height), *asked)
    return {**kept, "width": width, "height": height}


def _kept(sent: object) -> SourcePicture | None:
    """A picture that is kept here; None for one that is still where the client has it, and for none."""
    return sent if isinstance(sent, SourcePicture) else None
