"""The table of inputs: what a client may say about a picture.

Parser, JSON schema, catalogue, command line, reference page and the picture's file all read it.
"""

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from flux_endpoint.core.acceleration import Acceleration
from flux_endpoint.core.catalog import ModelFamily, ModelSpec
from flux_endpoint.core.controlnet import ControlNetKind
from flux_endpoint.core.image_formats import DEFAULT_FORMAT, PNG
from flux_endpoint.core.input_kinds import (
    Choice,
    ControlModeName,
    FloatRange,
    FormatName,
    IntRange,
    JsonSchema,
    Kind,
    PictureFile,
    Seed,
    Side,
    Text,
)
from flux_endpoint.core.lora import LoraList
from flux_endpoint.core.negative_mode import STRENGTHS, NegativeMode


@dataclass(frozen=True, slots=True)
class Input:
    """One row.

    Attributes:
        name: on the wire, and of the field of `GenerationRequest`.
        help: for people.
        kind: which values it takes with every model that `kinds` does not name.
        in_file: its name in the picture's file; empty where the file shows it anyway.
        aliases: names under which it may be sent too; the name itself wins. Names of another form: `other_names`.
        kinds: which values it takes with some models; None with those that do not take it.
        helps: what is said of it with some models instead.
    """

    name: str
    help: str
    kind: Kind
    in_file: str = ""
    aliases: tuple[str, ...] = ()
    kinds: Mapping[ModelFamily, Kind | None] = field(default_factory=dict)
    helps: Mapping[ModelFamily, str] = field(default_factory=dict)

    def in_words(self, say: Callable[[Kind], str]) -> str:
        """What is said of its kind, and where a model has another one, of that too: `1 to 50; schnell: 1 to 8`."""
        usual = say(self.kind)
        others = {family: "none" if kind is None else say(kind) for family, kind in self.kinds.items()}
        return "; ".join([usual, *(f"{family}: {words}" for family, words in others.items() if words != usual)])


MAX_PICTURES: Final = 4
_OF_REDUX: Final = ("image_prompt", "image_prompt_scale")
_CONTROL_MODE: Final = "control_mode"
# Of models that take a ControlNet, only where one is loaded.
OF_CONTROLNET: Final = ("control_image", _CONTROL_MODE, "control_scale", "control_start", "control_end")
# Far beyond 512 tokens of any language, small enough for a database row.
_MAX_PROMPT_CHARS: Final = 10_000
# Sent by @runpod/ai-sdk-provider for its aspect ratios 1:1, 4:3 and 3:4.
_AI_SDK_SIZES: Final = frozenset({(1328, 1328), (1472, 1140), (1140, 1472)})
SIDE: Final = Side(minimum=256, maximum=1536, default=1024, multiple_of=64, odd_sizes=_AI_SDK_SIZES)

# They start from noise alone, and read no picture but the map.
_FOR_MAP_READERS_NONE: Final = dict.fromkeys((ModelFamily.CANNY, ModelFamily.DEPTH))
_WITH_CONTROLNET_ONLY: Final = {family: None for family in ModelFamily if not family.takes_controlnet}


# In the order in which they are checked, shown, and written into files.
INPUTS: Final = (
    Input("prompt", "What the picture shows.", Text(_MAX_PROMPT_CHARS), in_file="prompt"),
    Input(
        "negative_prompt",
        "What it must not show.",
        Text(_MAX_PROMPT_CHARS, default=""),
        in_file="negative_prompt",
    ),
    Input(
        "image",
        "Picture to start from. Without `width` and `height`, the result has its shape.",
        PictureFile(),
        in_file="source_image",
        aliases=("image_url", "init_image", "input_image"),
        kinds={
            ModelFamily.KONTEXT: PictureFile(default=None),
            ModelFamily.FILL: PictureFile(default=None),
            **_FOR_MAP_READERS_NONE,
        },
        helps={
            ModelFamily.KONTEXT: "Picture to change, of any size: more than a megapixel is scaled down to one.",
            ModelFamily.FILL: "Picture to complete. Without `width` and `height`, the result has its shape.",
        },
    ),
    Input(
        "mask",
        "Where `image` is drawn anew: white. Black stays. Of the shape of `image`.",
        PictureFile(),
        in_file="source_mask",
        aliases=("mask_url", "mask_image"),
        kinds={ModelFamily.KONTEXT: None, ModelFamily.FILL: PictureFile(default=None), **_FOR_MAP_READERS_NONE},
    ),
    Input(
        "strength",
        "How much of `image` is lost in noise first: 0 keeps nearly all, 1 nothing.",
        FloatRange(minimum=0.0, maximum=1.0, default=0.6),
        in_file="strength",
        aliases=("prompt_strength", "denoising_strength"),
        kinds={
            ModelFamily.KONTEXT: None,
            ModelFamily.FILL: FloatRange(minimum=0.0, maximum=1.0, default=1.0),
            **_FOR_MAP_READERS_NONE,
        },
    ),
    Input(
        "control_image",
        "Map to draw along, such as white edges on black, or near parts bright and far ones dark. Only where a "
        "ControlNet is loaded. Without `width` and `height`, the result has its shape.",
        PictureFile(),
        in_file="control_image",
        aliases=("control_image_url", "preprocessed_image"),
        kinds={
            **_WITH_CONTROLNET_ONLY,
            **dict.fromkeys((ModelFamily.CANNY, ModelFamily.DEPTH), PictureFile(default=None)),
        },
        helps={
            ModelFamily.CANNY: "Edges to draw along, white on black, as Canny's algorithm finds them in a photo. "
            "Without `width` and `height`, the result has its shape.",
            ModelFamily.DEPTH: "Distances to draw along, what is near bright and what is far dark, as a model of "
            "depth finds them in a photo. Without `width` and `height`, the result has its shape.",
        },
    ),
    Input(
        _CONTROL_MODE,
        "Which kind of map `control_image` is, for a ControlNet that reads several.",
        ControlModeName(),
        in_file=_CONTROL_MODE,
        kinds=_WITH_CONTROLNET_ONLY,
    ),
    Input(
        "control_scale",
        "How much the ControlNet has to say: 0 for nothing.",
        FloatRange(minimum=0.0, maximum=2.0, default=1.0),
        in_file="control_scale",
        aliases=("controlnet_conditioning_scale", "conditioning_scale", "control_strength"),
        kinds=_WITH_CONTROLNET_ONLY,
    ),
    Input(
        "control_start",
        "Share of the steps after which the ControlNet begins.",
        FloatRange(minimum=0.0, maximum=1.0, default=0.0),
        in_file="control_start",
        aliases=("control_guidance_start", "start_percentage"),
        kinds=_WITH_CONTROLNET_ONLY,
    ),
    Input(
        "control_end",
        "Share of the steps after which it ends.",
        FloatRange(minimum=0.0, maximum=1.0, default=1.0),
        in_file="control_end",
        aliases=("control_guidance_end", "end_percentage"),
        kinds=_WITH_CONTROLNET_ONLY,
    ),
    Input(
        "image_prompt",
        "Picture that is read like a prompt, beside the words. Only where FLUX.1 Redux is loaded.",
        PictureFile(),
        in_file="image_prompt",
        aliases=("redux_image",),
        kinds={ModelFamily.KONTEXT: None, ModelFamily.FILL: None, **_FOR_MAP_READERS_NONE},
    ),
    Input(
        "image_prompt_scale",
        "What the numbers read from `image_prompt` are multiplied by.",
        FloatRange(minimum=0.0, maximum=1.0, default=1.0),
        in_file="image_prompt_scale",
        aliases=("image_prompt_strength",),
        kinds={ModelFamily.KONTEXT: None, ModelFamily.FILL: None, **_FOR_MAP_READERS_NONE},
    ),
    Input("width", "Pixels.", SIDE, in_file="width"),
    Input("height", "Pixels.", SIDE, in_file="height"),
    Input(
        "num_inference_steps",
        "Denoising steps.",
        IntRange(minimum=1, maximum=50, default=28),
        in_file="steps",
        aliases=("steps",),
        kinds={
            ModelFamily.SCHNELL: IntRange(minimum=1, maximum=8, default=4),
            ModelFamily.FILL: IntRange(minimum=1, maximum=50, default=50),
            ModelFamily.CANNY: IntRange(minimum=1, maximum=50, default=50),
            ModelFamily.DEPTH: IntRange(minimum=1, maximum=50, default=30),
        },
    ),
    Input(
        "stop_after",
        "Steps after which a draft is shown, to be finished later; 0 for none.",
        IntRange(minimum=0, maximum=49, default=0),
        in_file="stop_after",
        kinds={ModelFamily.SCHNELL: IntRange(minimum=0, maximum=7, default=0)},
    ),
    Input(
        "guidance",
        "Distilled guidance. Without effect on Flux Schnell.",
        FloatRange(minimum=0.0, maximum=10.0, default=7.5),
        in_file="guidance",
        aliases=("guidance_scale",),
        kinds={
            ModelFamily.KONTEXT: FloatRange(minimum=0.0, maximum=10.0, default=2.0),
            ModelFamily.FILL: FloatRange(minimum=0.0, maximum=100.0, default=30.0),
            ModelFamily.CANNY: FloatRange(minimum=0.0, maximum=100.0, default=30.0),
            ModelFamily.DEPTH: FloatRange(minimum=0.0, maximum=100.0, default=10.0),
        },
    ),
    Input(
        "true_cfg_scale",
        "Strength of the negative prompt; 1 for none.",
        FloatRange(minimum=1.0, maximum=10.0, default=STRENGTHS[NegativeMode.CFG]),
        in_file="true_cfg_scale",
        kinds={ModelFamily.SCHNELL: FloatRange(minimum=1.0, maximum=10.0, default=STRENGTHS[NegativeMode.NAG])},
    ),
    Input(
        "negative_mode",
        "How the negative prompt acts: `cfg` by a second pass a step, `nag` inside the attention, in one.",
        Choice(NegativeMode.CFG),
        in_file="negative_mode",
        kinds={ModelFamily.SCHNELL: Choice(NegativeMode.NAG)},
    ),
    Input("seed", "Same seed, same picture. -1 draws one.", Seed(), in_file="seed"),
    Input(
        "num_images",
        "Pictures of one job; their seeds follow one another, and each is priced.",
        IntRange(minimum=1, maximum=MAX_PICTURES, default=1),
        aliases=("n", "num_outputs", "num_images_per_prompt"),
    ),
    Input(
        "image_format",
        "Of the picture's file.",
        FormatName(default=DEFAULT_FORMAT.name),
        aliases=("output_format",),
        kinds={ModelFamily.KONTEXT: FormatName(default=PNG.name)},
    ),
    Input(
        "acceleration",
        "How much faster than exact: `regular` is never more than 1 of 255 off, `high` looks the same.",
        Choice(Acceleration.NONE),
        in_file="acceleration",
    ),
    Input(
        "loras",
        "Small files that change what the model draws, by name.",
        LoraList(),
        in_file="loras",
        aliases=("image_loras",),
    ),
)


@functools.cache
def inputs_of(spec: ModelSpec, *, any_size: bool = False) -> tuple[tuple[Input, Kind], ...]:
    """The inputs that a model takes, with its kind of each; with `any_size` sides need be no multiple of anything."""
    chosen = {"acceleration": Choice(spec.acceleration)}
    rows = ((row, chosen.get(row.name) or row.kinds.get(spec.family, row.kind)) for row in INPUTS)
    taken = ((row, kind) for row, kind in rows if kind is not None)
    return tuple((row, kind.any_size if any_size and isinstance(kind, Side) else kind) for row, kind in taken)


@functools.cache
def defaults_of(spec: ModelSpec) -> Mapping[str, Any]:
    """What the inputs that need not be sent are read as when they are absent."""
    rows = [(row.name, kind) for row, kind in inputs_of(spec) if kind.default is not None]
    fields = {name: kind.default for name, kind in rows}
    return {name: kind.read(name, fields) for name, kind in rows}


@functools.cache
def not_taken(spec: ModelSpec) -> tuple[str, ...]:
    """The inputs of other models."""
    return tuple(row.name for row in INPUTS if row.kinds.get(spec.family, row.kind) is None)


def reads_image_prompts(family: ModelFamily) -> bool:
    """Whether models of a family read pictures as prompts, where FLUX.1 Redux is loaded beside them."""
    return any(row.name in _OF_REDUX and row.kinds.get(family, row.kind) is not None for row in INPUTS)


def input_schema(spec: ModelSpec, *, has_redux: bool = True, controlnet: ControlNetKind | None = None) -> JsonSchema:
    """JSON schema of a model's `input`.

    Args:
        spec: the model.
        has_redux: whether FLUX.1 Redux is loaded beside it.
        controlnet: which ControlNet is, where the model takes one; None for none.
    """
    absent: tuple[str, ...] = () if has_redux else _OF_REDUX
    if spec.family.takes_controlnet and controlnet is not ControlNetKind.UNION:
        absent += (_CONTROL_MODE,) if controlnet else OF_CONTROLNET
    rows = [(row, kind) for row, kind in inputs_of(spec) if row.name not in absent]
    return {
        "type": "object",
        "title": f"{spec.display_name} input",
        "required": [row.name for row, kind in rows if kind.default is None],
        "properties": {row.name: kind.schema(row.helps.get(spec.family, row.help)) for row, kind in rows},
    }


def or_null(schema: JsonSchema) -> JsonSchema:
    """The schema of a value that may be null too: some languages cannot leave a key out."""
    values = {"enum": [*schema["enum"], None]} if "enum" in schema else {}
    types = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
    return schema | {"type": [*types, "null"]} | values
