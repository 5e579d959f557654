"""FLUX.1 Redux: pictures as prompts, read by SigLIP and put behind the words (docs/decisions/0056-redux.md)."""

import io
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import torch
from accelerate import init_empty_weights
from diffusers.pipelines.flux.modeling_flux import ReduxImageEncoder
from PIL import Image
from torch import Tensor
from transformers.models.siglip.configuration_siglip import SiglipVisionConfig

# By this name, whatever else is installed: the one that needs torchvision scales pictures to other numbers.
from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil
from transformers.models.siglip.modeling_siglip import SiglipVisionModel

from flux_endpoint.core.errors import CheckpointError
from flux_endpoint.engine.add_on_files import PROCESSOR, redux_folder, redux_headers, redux_part
from flux_endpoint.engine.detect import Part, ReduxPart, detect
from flux_endpoint.engine.layout import ATTENTION, CheckedComponent, compare, plain_layout, read_config
from flux_endpoint.engine.stored import gather
from flux_endpoint.engine.text import PromptEmbeds
from flux_endpoint.engine.trouble import reading
from flux_endpoint.files.safetensors_header import TensorHeader

# A client that varies seeds sends one picture many times; 4 take 46 MiB in float32.
_REMEMBERED_PICTURES: Final = 4
# Written by older versions: a word before each name, and a table that is counted.
_WORD: Final = "vision_model."
_COUNTED: Final = "embeddings.position_ids"


@dataclass(frozen=True, slots=True, eq=False)
class CheckedRedux:
    """Redux whose files are complete and fit together; no weight has been read.

    Attributes:
        processor: makes numbers of pictures, as SigLIP was trained with them.
    """

    components: Mapping[Part, CheckedComponent]
    processor: SiglipImageProcessorPil


class PicturePrompts:
    """Reads pictures as if they were words, and remembers the last few.

    Args:
        encoder: SigLIP, a picture to a token for each of its patches.
        embedder: Redux itself, these tokens to such as T5 makes of words.
        processor: see `CheckedRedux`.
    """

    def __init__(
        self, encoder: SiglipVisionModel, embedder: ReduxImageEncoder, processor: SiglipImageProcessorPil
    ) -> None:
        self._encoder = encoder
        self._embedder = embedder
        self._processor = processor
        self._remembered: dict[str, Tensor] = {}

    def read(self, sha256: str, data: bytes) -> Tensor:
        """What a picture says, as diffusers' `FluxPriorReduxPipeline` reads it: squeezed into a square.

        Args:
            sha256: of the file.
            data: of a PNG file.

        Returns:
            (1, patches, joint_attention_dim), of the encoder's device and dtype.
        """
        if sha256 not in self._remembered:
            if len(self._remembered) == _REMEMBERED_PICTURES:
                del self._remembered[next(iter(self._remembered))]
            self._remembered[sha256] = self._read(data)
        return self._remembered[sha256]

    @torch.inference_mode()
    def _read(self, data: bytes) -> Tensor:
        with Image.open(io.BytesIO(data)) as image:
            numbers = self._processor.preprocess(image.convert("RGB"), return_tensors="pt")["pixel_values"]
        patches = self._encoder(numbers.to(self._encoder.device, self._encoder.dtype)).last_hidden_state
        read: Tensor = self._embedder(patches).image_embeds
        return read


@torch.inference_mode()
def with_picture(words: PromptEmbeds, picture: Tensor, scale: float) -> PromptEmbeds:
    """A prompt of words and a picture, in this order.

    Args:
        words: the prompt.
        picture: (1, patches, joint_attention_dim), as `PicturePrompts.read` makes it.
        scale: what the picture's numbers are multiplied by, 0 to 1.
    """
    return replace(words, sequence=torch.cat([words.sequence, picture * scale], dim=1))


def check_redux(place: str, reads: int, *, download: bool) -> CheckedRedux:
    """Find Redux and check it, reading headers only.

    Args:
        place: a hub id, or a folder in the layout of diffusers.
        reads: numbers a token that the transformer reads of a prompt.
        download: whether the hub may be asked; otherwise only what was downloaded before is used.

    Raises:
        CheckpointError: the first problem found, in one line that begins with the place.
    """
    try:
        folder = redux_folder(place, download=download)
        components: dict[Part, CheckedComponent] = {part: _checked(folder, part) for part in ReduxPart}
        processor = _processor(folder)
        _rehearse(components, processor, reads)
    except CheckpointError as error:
        raise CheckpointError(f"Redux {place}: {error}") from error
    return CheckedRedux(components, processor)


def _checked(folder: Path, part: ReduxPart) -> CheckedComponent:
    place = redux_part(folder, part)
    headers = _plain(part, redux_headers(folder, part))
    module = _without_memory(part, place / "config.json")
    checked = CheckedComponent(part, place, detect(headers), module, plain_layout(module), gather(headers))
    compare(checked)
    return checked


def _plain(part: ReduxPart, headers: Mapping[str, TensorHeader]) -> dict[str, TensorHeader]:
    if part is ReduxPart.IMAGE_EMBEDDER:
        return dict(headers)
    plain = {name.removeprefix(_WORD): header for name, header in headers.items()}
    plain.pop(_COUNTED, None)
    return plain


def _without_memory(part: ReduxPart, config_file: Path) -> Any:
    kind = SiglipVisionModel if part is ReduxPart.IMAGE_ENCODER else ReduxImageEncoder
    config = read_config(config_file, kind.__name__)
    # As in `layout`: buffers come from no file.
    with reading(config_file), init_empty_weights(include_buffers=False):
        if part is ReduxPart.IMAGE_ENCODER:
            return SiglipVisionModel(SiglipVisionConfig.from_dict({**config, **ATTENTION}))
        return ReduxImageEncoder.from_config(config)


def _processor(folder: Path) -> SiglipImageProcessorPil:
    place = redux_part(folder, PROCESSOR)
    with reading(place):
        return SiglipImageProcessorPil.from_pretrained(place, local_files_only=True)


@torch.inference_mode()
def _rehearse(components: Mapping[Part, CheckedComponent], processor: SiglipImageProcessorPil, reads: int) -> None:
    """Read a picture without numbers, which costs nothing: it finds what does not fit together.

    Nothing of this can be counted from the tensors: 27 x 27 patches of 14 pixels fill 378 of the 384 that there are.
    """
    encoder, embedder = (components[part].module for part in ReduxPart)
    with reading(f"{PROCESSOR}/preprocessor_config.json"):
        numbers = processor.preprocess(Image.new("RGB", (3, 2)), return_tensors="pt")["pixel_values"]
    with reading(f"{ReduxPart.IMAGE_ENCODER} with the pictures of {PROCESSOR}"), torch.device("meta"):
        patches = encoder(torch.empty(numbers.shape)).last_hidden_state
    given, wanted = patches.shape[2], embedder.config.redux_dim
    if given != wanted:
        raise CheckpointError(f"the encoder gives {given} numbers a token, and the embedder reads {wanted}")
    if embedder.config.txt_in_features != reads:
        gives = embedder.config.txt_in_features
        raise CheckpointError(
            f"it is of another model: it gives {gives} numbers a token, the transformer reads {reads}"
        )
