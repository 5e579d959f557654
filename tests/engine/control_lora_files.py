"""Control LoRAs of a tiny dev, in both layouts, and what they mean."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers import FluxTransformer2DModel
from torch import Tensor

from flux_endpoint.files.original_names import original_module, original_name
from tests.engine.checkpoints import TRANSFORMER_CONFIG
from tests.engine.lora_files import Change, Tensors, bare_original, diffusers, linear_sizes, random_changes

GAINS = ("norm_q.weight", "norm_k.weight", "norm_added_q.weight", "norm_added_k.weight")
FINAL = "final_layer.adaLN_modulation.1"


@dataclass(frozen=True)
class Control:
    """Changes of all layers, biases of some, all gains; by diffusers' names."""

    changes: Mapping[str, Change]
    biases: Tensors
    gains: Tensors

    def in_diffusers_names(self) -> Tensors:
        biases = {f"transformer.{name}.lora_B.bias": bias for name, bias in self.biases.items()}
        return diffusers(self.changes) | biases | {f"transformer.{name}": gain for name, gain in self.gains.items()}

    def in_original_names(self) -> Tensors:
        stacked: dict[str, dict[int, Tensor]] = {}
        for module, bias in self.biases.items():
            original, place = original_module(module)
            stacked.setdefault(original, {})[place] = bias
        biases = {}
        for original, by_place in stacked.items():
            bias = torch.cat([by_place[place] for place in sorted(by_place)])
            biases[f"{original}.lora_B.bias"] = torch.cat(bias.chunk(2)[::-1]) if original == FINAL else bias
        return (
            bare_original(self.changes) | biases | {original_name(name)[0]: gain for name, gain in self.gains.items()}
        )

    def merged_into(self, plain: Tensors) -> Tensors:
        """The formula, in float32: weight + up @ down, bias + bias, gains replaced."""
        merged = {name: tensor.float() for name, tensor in plain.items()}
        first = merged["x_embedder.weight"]
        merged["x_embedder.weight"] = torch.cat([first, torch.zeros_like(first)], dim=1)
        for name, change in self.changes.items():
            merged[f"{name}.weight"] = merged[f"{name}.weight"] + change.up @ change.down
        for name, bias in self.biases.items():
            merged[f"{name}.bias"] = merged[f"{name}.bias"] + bias
        return merged | self.gains


def random_control(seed: int = 0) -> Control:
    with torch.device("meta"):
        wide = FluxTransformer2DModel(
            **TRANSFORMER_CONFIG | {"in_channels": 32, "out_channels": 16}, guidance_embeds=True
        )
    generator = torch.Generator().manual_seed(seed)
    sizes = linear_sizes(wide)
    changes = random_changes(sizes, seed)
    biases = {name: torch.randn(rows, generator=generator) * 0.1 for name, (rows, _) in sizes.items()}
    gains = {
        name: 1 + torch.randn(tensor.shape, generator=generator) * 0.1
        for name, tensor in wide.state_dict().items()
        if name.endswith(GAINS)
    }
    return Control(changes, biases, gains)


def write_merged(dev: Path, folder: Path, control: Control) -> Path:
    """A whole Canny in diffusers' layout, with the merged weights in float32, beside the rest of a dev."""
    plain = FluxTransformer2DModel.from_pretrained(dev / "transformer").state_dict()
    config = TRANSFORMER_CONFIG | {"in_channels": 32, "out_channels": 16}
    model = FluxTransformer2DModel(**config, guidance_embeds=True)
    model.load_state_dict(control.merged_into(plain), strict=True)
    model.save_pretrained(folder / "transformer")
    for part in dev.iterdir():
        if part.is_dir() and part.name != "transformer":
            (folder / part.name).symlink_to(part)
    index = (dev / "model_index.json").read_text()
    (folder / "model_index.json").write_text(index.replace("FluxPipeline", "FluxControlPipeline"))
    return folder
