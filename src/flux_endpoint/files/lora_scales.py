"""How strong a LoRA is by itself: alpha / rank, and the three places where files write their alpha."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import isfinite, sqrt
from pathlib import Path
from typing import Any, Final

from flux_endpoint.core.errors import CheckpointError

# Of PEFT: a folder is one LoRA, with its configuration beside the weights.
PEFT_FILE: Final = "adapter_model.safetensors"
_CONFIG_FILE: Final = "adapter_config.json"
# Of diffusers, in the metadata: the same for each component, with its name before each key.
_METADATA: Final = "lora_adapter_metadata"
_TRANSFORMER: Final = "transformer."


@dataclass(frozen=True, slots=True)
class LoraScales:
    """What a configuration says; a file without one has its alphas beside the weights, or none.

    Attributes:
        alpha: of all layers that `alphas` does not name; None where nothing is said.
        alphas: by the ends of layers' names.
        is_root: whether alpha is divided by the root of the rank (rslora).
    """

    alpha: float | None = None
    alphas: Mapping[str, float] = field(default_factory=dict)
    is_root: bool = False

    def factor(self, file: Path, name: str, alpha: float | None, rank: int) -> float:
        """What the change of a layer is multiplied with.

        Args:
            file: for errors.
            name: of the layer, as the file has it.
            alpha: beside its weights; None where there is none.
            rank: of the change.

        Raises:
            CheckpointError: alpha is said twice.
        """
        said = next((one for end, one in self.alphas.items() if re.fullmatch(rf"(.*\.)?({end})", name)), self.alpha)
        if alpha is not None and said is not None:
            raise CheckpointError(f"{file.name} says the alpha of {name} twice: beside its weights and in its config")
        alpha = said if alpha is None else alpha
        if alpha is None:
            return 1.0
        return alpha / (sqrt(rank) if self.is_root else rank)


def read_scales(file: Path, metadata: Mapping[str, str], *, with_biases: bool = False) -> LoraScales:
    """What is said beside the weights of a LoRA file, in its metadata or in the config of PEFT.

    Args:
        file: of the LoRA.
        metadata: of that file.
        with_biases: whether it may have biases of its own (`lora_B.bias`).

    Raises:
        CheckpointError: it cannot be read, or asks for what is not applied here.
    """
    try:
        if _METADATA in metadata:
            every = json.loads(metadata[_METADATA])
            starts = [key for key in every if not key.startswith(_TRANSFORMER)]
            if starts:
                raise CheckpointError(f"{file.name} has a configuration of text encoders, which is not applied here")
            config = {key.removeprefix(_TRANSFORMER): value for key, value in every.items()}
        elif file.name == PEFT_FILE and (file.parent / _CONFIG_FILE).is_file():
            config = json.loads((file.parent / _CONFIG_FILE).read_text("utf-8"))
        else:
            return LoraScales()
        return _scales(file, config, with_biases=with_biases)
    except (OSError, ValueError, TypeError, AttributeError, RecursionError) as error:
        raise CheckpointError(f"the configuration of {file.name} cannot be read: {error}") from None


def _scales(file: Path, config: Mapping[str, Any], *, with_biases: bool) -> LoraScales:
    if config.get("use_dora"):
        raise CheckpointError(f"{file.name} is a DoRA, which is not applied here")
    has_biases = config.get("lora_bias") and not with_biases
    if config.get("bias", "none") != "none" or has_biases or config.get("modules_to_save"):
        raise CheckpointError(f"{file.name} changes biases or whole layers, which is not applied here")
    alpha = config.get("lora_alpha")
    alphas = {str(end): float(value) for end, value in (config.get("alpha_pattern") or {}).items()}
    for value in (*alphas.values(), *([] if alpha is None else [float(alpha)])):
        if not (isfinite(value) and value > 0):
            raise CheckpointError(f"{file.name}: its lora_alpha is {value:g}, which must be above 0")
    return LoraScales(None if alpha is None else float(alpha), alphas, bool(config.get("use_rslora")))
