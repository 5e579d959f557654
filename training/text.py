"""The two text encoders, and how prompts become conditioning: exactly what `FluxPipeline` does with them."""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer, T5Config, T5EncoderModel, T5TokenizerFast

WIDTH = 128
CLIP_LAYERS = 2
T5_LAYERS = 2


def build_clip(tokenizer: CLIPTokenizer) -> CLIPTextModel:
    """A small CLIP text model; its pooled vector is the state at the end-of-text token."""
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=WIDTH,
            intermediate_size=2 * WIDTH,
            projection_dim=WIDTH,
            num_hidden_layers=CLIP_LAYERS,
            num_attention_heads=4,
            max_position_embeddings=tokenizer.model_max_length,
            # The id must be the tokenizer's own: the value 2 would select an old rule that pools the wrong token.
            eos_token_id=tokenizer.eos_token_id,
            bos_token_id=tokenizer.bos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )


def build_t5(tokenizer: T5TokenizerFast) -> T5EncoderModel:
    """A small T5 encoder."""
    return T5EncoderModel(
        T5Config(
            vocab_size=len(tokenizer),
            d_model=WIDTH,
            d_kv=32,
            d_ff=2 * WIDTH,
            num_layers=T5_LAYERS,
            num_heads=4,
            feed_forward_proj="gated-gelu",
            dropout_rate=0.0,
            pad_token_id=tokenizer.pad_token_id,
            eos_token_id=tokenizer.eos_token_id,
        )
    )


class TextEncoders:
    """Both tokenizers with both encoders."""

    def __init__(
        self, clip_tokenizer: CLIPTokenizer, t5_tokenizer: T5TokenizerFast, clip: CLIPTextModel, t5: T5EncoderModel
    ) -> None:
        self.clip_tokenizer, self.t5_tokenizer = clip_tokenizer, t5_tokenizer
        self.clip, self.t5 = clip, t5

    @classmethod
    def new(cls, folder: Path) -> "TextEncoders":
        """Untrained encoders for the tokenizers in `folder`."""
        clip_tokenizer = CLIPTokenizer.from_pretrained(folder / "tokenizer")
        t5_tokenizer = T5TokenizerFast.from_pretrained(folder / "tokenizer_2")
        return cls(clip_tokenizer, t5_tokenizer, build_clip(clip_tokenizer), build_t5(t5_tokenizer))

    @classmethod
    def load(cls, folder: Path, device: torch.device) -> "TextEncoders":
        """Trained, frozen float32 encoders from a diffusers folder."""
        clip = CLIPTextModel.from_pretrained(folder / "text_encoder", dtype=torch.float32)
        t5 = T5EncoderModel.from_pretrained(folder / "text_encoder_2", dtype=torch.float32)
        for model in (clip, t5):
            model.to(device).eval().requires_grad_(False)
        return cls(
            CLIPTokenizer.from_pretrained(folder / "tokenizer"),
            T5TokenizerFast.from_pretrained(folder / "tokenizer_2"),
            clip,
            t5,
        )

    def __call__(self, prompts: Sequence[str], length: int) -> tuple[Tensor, Tensor]:
        """Encode prompts.

        Args:
            prompts: n texts; "" is the unconditional prompt.
            length: T5 tokens per prompt, padding included. As in `FluxPipeline`, nothing masks the padding.

        Returns:
            Pooled vectors (n, 128) and token states (n, length, 128).
        """
        device = self.clip.device
        ids = self.clip_tokenizer(
            list(prompts), padding=True, truncation=True, max_length=77, return_tensors="pt"
        ).input_ids
        pooled = self.clip(ids.to(device)).pooler_output
        ids = self.t5_tokenizer(
            list(prompts), padding="max_length", truncation=True, max_length=length, return_tensors="pt"
        ).input_ids
        return pooled, self.t5(ids.to(device))[0]

    def save(self, folder: Path) -> None:
        """Write the encoders in diffusers' layout."""
        self.clip.save_pretrained(folder / "text_encoder")
        self.t5.save_pretrained(folder / "text_encoder_2")
