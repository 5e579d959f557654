"""The two text encoders, and how prompts become conditioning: exactly what `FluxPipeline` does with them."""

from collections.abc import Sequence
from dataclasses import dataclass
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


@dataclass(frozen=True, slots=True)
class Prompts:
    """Tokenised prompts.

    Attributes:
        clip: (n, longest of them) token numbers for CLIP.
        t5: (n, length) token numbers for T5, padded. As in `FluxPipeline`, nothing masks the padding.
        named: (n,) whether a prompt says anything: False for "", the unconditional one.
    """

    clip: Tensor
    t5: Tensor
    named: Tensor

    def to(self, device: torch.device) -> "Prompts":
        """The same on a device."""
        return Prompts(*(part.to(device, non_blocking=True) for part in (self.clip, self.t5, self.named)))

    def pin_memory(self) -> "Prompts":
        """The same in page-locked memory, for `DataLoader`."""
        return Prompts(self.clip.pin_memory(), self.t5.pin_memory(), self.named.pin_memory())


class Tokenizers:
    """Both tokenizers of a model."""

    def __init__(self, clip: CLIPTokenizer, t5: T5TokenizerFast) -> None:
        self.clip, self.t5 = clip, t5

    @classmethod
    def load(cls, folder: Path) -> "Tokenizers":
        """From a diffusers folder."""
        return cls(
            CLIPTokenizer.from_pretrained(folder / "tokenizer"), T5TokenizerFast.from_pretrained(folder / "tokenizer_2")
        )

    def __call__(self, prompts: Sequence[str], length: int) -> Prompts:
        """Tokenise n texts, each into `length` tokens for T5, padding included."""
        texts = list(prompts)
        clip = self.clip(texts, padding=True, truncation=True, max_length=77, return_tensors="pt").input_ids
        t5 = self.t5(texts, padding="max_length", truncation=True, max_length=length, return_tensors="pt").input_ids
        return Prompts(clip, t5, torch.tensor([text != "" for text in texts]))


class TextEncoders:
    """Both tokenizers with both encoders."""

    def __init__(self, tokenizers: Tokenizers, clip: CLIPTextModel, t5: T5EncoderModel) -> None:
        self.tokenizers, self.clip, self.t5 = tokenizers, clip, t5

    @classmethod
    def new(cls, folder: Path) -> "TextEncoders":
        """Untrained encoders for the tokenizers in `folder`."""
        tokenizers = Tokenizers.load(folder)
        return cls(tokenizers, build_clip(tokenizers.clip), build_t5(tokenizers.t5))

    @classmethod
    def load(cls, folder: Path, device: torch.device) -> "TextEncoders":
        """Trained, frozen float32 encoders from a diffusers folder."""
        clip = CLIPTextModel.from_pretrained(folder / "text_encoder", dtype=torch.float32)
        t5 = T5EncoderModel.from_pretrained(folder / "text_encoder_2", dtype=torch.float32)
        for model in (clip, t5):
            model.to(device).eval().requires_grad_(False)
        return cls(Tokenizers.load(folder), clip, t5)

    def __call__(self, prompts: Prompts) -> tuple[Tensor, Tensor]:
        """Pooled vectors (n, 128) and token states (n, length, 128) of prompts on the encoders' device."""
        return self.clip(prompts.clip).pooler_output, self.t5(prompts.t5)[0]

    def encode(self, texts: Sequence[str], length: int) -> tuple[Tensor, Tensor]:
        """Tokenise n texts and encode them: (n, 128) and (n, length, 128)."""
        return self(self.tokenizers(texts, length).to(self.clip.device))

    def save(self, folder: Path) -> None:
        """Write the encoders in diffusers' layout."""
        self.clip.save_pretrained(folder / "text_encoder")
        self.t5.save_pretrained(folder / "text_encoder_2")
