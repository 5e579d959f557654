"""A tiny random Redux in the layout of FLUX.1-Redux-dev, quirks included."""

import json
from pathlib import Path

import torch
from diffusers.pipelines.flux.modeling_flux import ReduxImageEncoder
from safetensors.torch import load_file, save_file
from transformers import SiglipVisionConfig, SiglipVisionModel

from tests.engine.checkpoints import TRANSFORMER_CONFIG

# As published: 7 x 7 patches of 14 fill 98 of 104 pixels, as 27 x 27 fill 378 of 384.
SIDE_PX, PATCH_PX = 104, 14
PATCHES = (SIDE_PX // PATCH_PX) ** 2


def build_redux(folder: Path, seed: int = 0) -> Path:
    """Write one in bfloat16, which fits to the checkpoints of `build_checkpoint`."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        encoder = SiglipVisionModel(
            SiglipVisionConfig(
                hidden_size=24,
                intermediate_size=48,
                num_hidden_layers=2,
                num_attention_heads=2,
                image_size=SIDE_PX,
                patch_size=PATCH_PX,
            )
        )
        embedder = ReduxImageEncoder(redux_dim=24, txt_in_features=TRANSFORMER_CONFIG["joint_attention_dim"])
    encoder.to(torch.bfloat16).save_pretrained(folder / "image_encoder")
    embedder.to(torch.bfloat16).save_pretrained(folder / "image_embedder")
    _name_as_published(folder / "image_encoder/model.safetensors")
    (folder / "feature_extractor").mkdir()
    processor = {
        "do_convert_rgb": None,
        "do_normalize": True,
        "do_rescale": True,
        "do_resize": True,
        "image_mean": [0.5, 0.5, 0.5],
        "image_processor_type": "SiglipImageProcessor",
        "image_std": [0.5, 0.5, 0.5],
        "processor_class": "SiglipProcessor",
        "resample": 3,
        "rescale_factor": 0.00392156862745098,
        "size": {"height": SIDE_PX, "width": SIDE_PX},
    }
    (folder / "feature_extractor/preprocessor_config.json").write_text(json.dumps(processor))
    index = {
        "_class_name": "FluxPriorReduxPipeline",
        "_diffusers_version": "0.31.0.dev0",
        "feature_extractor": ["transformers", "SiglipImageProcessor"],
        "image_embedder": ["flux", "ReduxImageEncoder"],
        "image_encoder": ["transformers", "SiglipVisionModel"],
        "text_encoder": [None, None],
        "text_encoder_2": [None, None],
        "tokenizer": [None, None],
        "tokenizer_2": [None, None],
    }
    (folder / "model_index.json").write_text(json.dumps(index))
    (folder / "flux1-redux-dev.safetensors").write_text("the embedder once more, and not needed")
    return folder


def _name_as_published(file: Path) -> None:
    """The published file comes from an older version, which put a word before each name."""
    save_file({f"vision_model.{name}": one for name, one in load_file(file).items()}, file, metadata={"format": "pt"})
