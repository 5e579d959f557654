"""Tiny random checkpoints in the layout of the FLUX.1 repositories, quirks included."""

import io
import json
from pathlib import Path

import sentencepiece
import torch
from diffusers import AutoencoderKL, FlowMatchEulerDiscreteScheduler, FluxTransformer2DModel
from safetensors.torch import load_file, save_file
from transformers import CLIPTextConfig, CLIPTextModel, T5Config, T5EncoderModel, T5Tokenizer
from transformers.convert_slow_tokenizer import bytes_to_unicode

from flux_endpoint.core.catalog import ModelFamily

TRANSFORMER_CONFIG = {
    "in_channels": 16,
    "num_layers": 2,
    "num_single_layers": 2,
    "attention_head_dim": 16,
    "num_attention_heads": 2,
    "joint_attention_dim": 32,
    "pooled_projection_dim": 24,
    "axes_dims_rope": (4, 6, 6),
}
_WORDS = (
    "a the photo of serene mountain landscape at sunset with lake and house tree red blue circle square night day sea "
    "boat meadow snow in on under left right small large photorealistic very many words follow"
)


# Fill reads a picture with a hole, and the 16 x 16 pixels of the hole, beside each token.
_FILL_CONFIG = {"in_channels": 2 * 16 + 256, "out_channels": 16}
# Canny and Depth read the latents of a map beside each token.
_CONTROL_CONFIG = {"in_channels": 2 * 16, "out_channels": 16}
_CONFIGS = {
    ModelFamily.FILL: _FILL_CONFIG,
    ModelFamily.CANNY: _CONTROL_CONFIG,
    ModelFamily.DEPTH: _CONTROL_CONFIG,
}
_PIPELINES = {
    ModelFamily.KONTEXT: "FluxKontextPipeline",
    ModelFamily.FILL: "FluxFillPipeline",
    ModelFamily.CANNY: "FluxControlPipeline",
    ModelFamily.DEPTH: "FluxControlPipeline",
}


def build_checkpoint(folder: Path, family: ModelFamily, seed: int = 0) -> Path:
    """Write a checkpoint with FLUX.1's file layout: 16 px a token, bfloat16, sharded transformer and T5."""
    folder.mkdir(parents=True)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        _build_modules(folder, family)
    _build_clip_tokenizer(folder / "tokenizer")
    _build_t5_tokenizer(folder / "tokenizer_2", 256 if family is ModelFamily.SCHNELL else 512)
    _write_index(folder, _PIPELINES.get(family, "FluxPipeline"))
    _write_extras(folder)
    return folder


def _build_modules(folder: Path, family: ModelFamily) -> None:
    is_dev = family is not ModelFamily.SCHNELL
    config = TRANSFORMER_CONFIG | _CONFIGS.get(family, {})
    transformer = FluxTransformer2DModel(**config, guidance_embeds=is_dev).to(torch.bfloat16)
    transformer.save_pretrained(folder / "transformer", max_shard_size="40KB")
    vae = AutoencoderKL(
        down_block_types=["DownEncoderBlock2D"] * 4,
        up_block_types=["UpDecoderBlock2D"] * 4,
        block_out_channels=(4, 4, 8, 8),
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=2,
        scaling_factor=0.3611,
        shift_factor=0.1159,
        use_quant_conv=False,
        use_post_quant_conv=False,
        sample_size=1024,
    ).to(torch.bfloat16)
    vae.save_pretrained(folder / "vae")
    clip = CLIPTextModel(
        CLIPTextConfig(
            vocab_size=514,
            hidden_size=24,
            intermediate_size=48,
            num_hidden_layers=1,
            num_attention_heads=2,
            projection_dim=24,
            bos_token_id=512,
            eos_token_id=513,
            pad_token_id=513,
        )
    ).to(torch.bfloat16)
    clip.save_pretrained(folder / "text_encoder")
    _name_clip_as_published(folder / "text_encoder/model.safetensors")
    t5 = T5EncoderModel(
        T5Config(
            vocab_size=256,
            d_model=32,
            d_kv=8,
            d_ff=64,
            num_layers=2,
            num_heads=4,
            feed_forward_proj="gated-gelu",
            is_encoder_decoder=False,
            use_cache=False,
        )
    ).to(torch.bfloat16)
    t5.save_pretrained(folder / "text_encoder_2", max_shard_size="20KB")
    shift = {"use_dynamic_shifting": True, "shift": 3.0} if is_dev else {"shift": 1.0}
    FlowMatchEulerDiscreteScheduler(**shift).save_pretrained(folder / "scheduler")


def _name_clip_as_published(file: Path) -> None:
    """The published files come from an older version, which put a word before each name and stored a table more."""
    tensors = {f"text_model.{name}": tensor for name, tensor in load_file(file).items()}
    tensors["text_model.embeddings.position_ids"] = torch.arange(77)[None]
    save_file(tensors, file, metadata={"format": "pt"})


def _build_clip_tokenizer(folder: Path) -> None:
    folder.mkdir()
    letters = list(bytes_to_unicode().values())
    tokens = [*letters, *(f"{letter}</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    (folder / "vocab.json").write_text(json.dumps({token: number for number, token in enumerate(tokens)}))
    (folder / "merges.txt").write_text("#version: 0.2\nh o\nu s\n")
    vocab = json.loads((folder / "vocab.json").read_text())
    # Two merges, in place of two letters nobody types.
    for merged, number in (("ho", 250), ("us", 251)):
        vocab.pop(next(token for token, other in vocab.items() if other == number))
        vocab[merged] = number
    (folder / "vocab.json").write_text(json.dumps(vocab))
    config = {
        "tokenizer_class": "CLIPTokenizer",
        "model_max_length": 77,
        "bos_token": "<|startoftext|>",
        "eos_token": "<|endoftext|>",
        "unk_token": "<|endoftext|>",
        "pad_token": "<|endoftext|>",
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config))


def _build_t5_tokenizer(folder: Path, max_length: int) -> None:
    folder.mkdir()
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter([_WORDS] * 4),
        model_writer=model,
        vocab_size=120,
        pad_id=0,
        eos_id=1,
        unk_id=2,
        bos_id=-1,
        hard_vocab_limit=False,
        minloglevel=2,
        num_threads=1,
    )
    (folder / "spiece.model").write_bytes(model.getvalue())
    pieces = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())
    vocab = [(pieces.id_to_piece(number), pieces.get_score(number)) for number in range(len(pieces))]
    T5Tokenizer(vocab=vocab, extra_ids=100, model_max_length=max_length).save_pretrained(folder)


def _write_index(folder: Path, pipeline: str) -> None:
    index = {
        "_class_name": pipeline,
        "_diffusers_version": "0.30.0.dev0",
        "scheduler": ["diffusers", "FlowMatchEulerDiscreteScheduler"],
        "text_encoder": ["transformers", "CLIPTextModel"],
        "text_encoder_2": ["transformers", "T5EncoderModel"],
        "tokenizer": ["transformers", "CLIPTokenizer"],
        "tokenizer_2": ["transformers", "T5TokenizerFast"],
        "transformer": ["diffusers", "FluxTransformer2DModel"],
        "vae": ["diffusers", "AutoencoderKL"],
    }
    (folder / "model_index.json").write_text(json.dumps(index))


def _write_extras(folder: Path) -> None:
    """The repositories hold more than is needed; none of it may disturb."""
    for name in (
        "flux1-dev.safetensors",
        "ae.safetensors",
        "README.md",
        "LICENSE.md",
        "dev_grid.jpg",
        ".gitattributes",
    ):
        (folder / name).write_text("not part of the model")
