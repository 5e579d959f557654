"""Normalised attention guidance: a negative prompt inside the attention, in one forward pass a step.

After Chen et al., "Normalized Attention Guidance" (2025). The image has one stream and two texts: its queries look at
the prompt and at the negative prompt by turns, what it finds is pushed from the one to the other, and everything else
is computed once. It works where classifier-free guidance does not: with few steps.
"""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Final

import torch
from diffusers.models.embeddings import apply_rotary_emb
from diffusers.models.transformers.transformer_flux import FluxTransformer2DModel
from torch import Tensor
from torch.nn import functional

from flux_endpoint.engine.denoise import Conditions, Velocity, exact_velocity

# Added to a length that is divided by.
_LITTLE: Final = 1e-7


@dataclass(frozen=True, slots=True)
class Nag:
    """How what the image finds with two texts becomes one. The defaults were chosen by counting pictures.

    Attributes:
        scale: how far it is pushed from what it finds with the negative prompt; 1 for not at all.
        tau: how many times longer it may become for a token, as a sum of magnitudes.
        alpha: how much of the pushed one is taken, 0 to 1; the rest is what it finds with the prompt.
    """

    scale: float
    tau: float = 2.5
    alpha: float = 0.25

    def pushed(self, positive: Tensor, negative: Tensor) -> Tensor:
        """What the image attends to, of the shape of what it finds with each text, (batch, tokens, width)."""
        pushed = positive * self.scale - negative * (self.scale - 1)
        length, pushed_length = (part.abs().sum(-1, keepdim=True) for part in (positive, pushed))
        limit = length * self.tau
        pushed = torch.where(pushed_length > limit, pushed * (limit / (pushed_length + _LITTLE)), pushed)
        return pushed * self.alpha + positive * (1 - self.alpha)


def nag_velocity(transformer: FluxTransformer2DModel, timesteps: Tensor, conditions: Conditions) -> Velocity:
    """The velocity of a picture whose negative prompt acts in the attention of diffusers' own blocks.

    The negative prompt is a second text behind the first. Its pooled embeds are not read: both texts and the image are
    modulated by those of the prompt, so that no block computes anything twice.

    Args:
        transformer: predicts it.
        timesteps: (steps,), float32, 1000 to 0.
        conditions: of the picture, with a negative prompt.
    """
    positive, negative = conditions.positive, conditions.negative
    assert negative is not None
    with torch.inference_mode():
        texts = torch.cat([positive.sequence, negative.sequence], dim=1)
    both = replace(positive, sequence=texts)
    velocity_of_both = exact_velocity(transformer, timesteps, both, conditions)
    processor = NagProcessor(Nag(conditions.true_cfg_scale), positive.length)

    def velocity(step: int, latents: Tensor) -> Tensor:
        # Pictures that are drawn in turns share the transformer: it is as it was before each step ends.
        with attending(transformer, processor):
            return velocity_of_both(step, latents)

    return velocity


class NagProcessor:
    """The attention of FLUX's blocks over two texts and an image, as `FluxAttnProcessor` is that over one text.

    Args:
        nag: how what the image finds becomes one.
        text_tokens: of each text.
    """

    def __init__(self, nag: Nag, text_tokens: int) -> None:
        self._nag = nag
        self._text_tokens = text_tokens

    def __call__(
        self,
        attn: Any,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        image_rotary_emb: tuple[Tensor, Tensor] | None = None,
    ) -> Tensor | tuple[Tensor, Tensor]:
        """Attend, under the names that diffusers calls processors with.

        Args:
            attn: the block's `FluxAttention`.
            hidden_states: (batch, image tokens, width); in a single block all tokens, those of the texts first.
            encoder_hidden_states: (batch, tokens of both texts, width), the prompt first; None in a single block.
            attention_mask: none is known.
            image_rotary_emb: cosines and sines of all tokens.
        """
        assert attention_mask is None
        query, key, value = self._projected(attn, hidden_states, "to_q", "to_k", "to_v", attn.norm_q, attn.norm_k)
        if encoder_hidden_states is not None:
            names = ("add_q_proj", "add_k_proj", "add_v_proj")
            of_text = self._projected(attn, encoder_hidden_states, *names, attn.norm_added_q, attn.norm_added_k)
            query, key, value = (torch.cat(pair, dim=1) for pair in zip(of_text, (query, key, value), strict=True))
        query = apply_rotary_emb(query, image_rotary_emb, sequence_dim=1)
        key = apply_rotary_emb(key, image_rotary_emb, sequence_dim=1)
        texts, image = self._attended(query, key, value)
        if encoder_hidden_states is None:
            return torch.cat([texts, image], dim=1)
        return attn.to_out[1](attn.to_out[0](image)), attn.to_add_out(texts)

    @staticmethod
    def _projected(
        attn: Any, hidden: Tensor, q: str, k: str, v: str, norm_q: Any, norm_k: Any
    ) -> tuple[Tensor, Tensor, Tensor]:
        query, key, value = (getattr(attn, name)(hidden).unflatten(-1, (-1, attn.head_dim)) for name in (q, k, v))
        return norm_q(query), norm_k(key), value

    def _attended(self, query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """What both texts and the image attend to, each (batch, tokens, width)."""
        length = self._text_tokens
        of_texts, of_image = [], []
        for start in (0, length):
            q, k, v = (
                torch.cat([tokens[:, start : start + length], tokens[:, 2 * length :]], dim=1).transpose(1, 2)
                for tokens in (query, key, value)
            )
            found = functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2, 3)
            of_texts.append(found[:, :length])
            of_image.append(found[:, length:])
        return torch.cat(of_texts, dim=1), self._nag.pushed(*of_image)


@contextlib.contextmanager
def attending(transformer: FluxTransformer2DModel, processor: NagProcessor) -> Iterator[None]:
    """Let all blocks attend by a processor for as long as the block runs."""
    before = transformer.attn_processors
    transformer.set_attn_processor(processor)
    try:
        yield
    finally:
        transformer.set_attn_processor(before)
