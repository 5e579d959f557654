"""Text: prompts to the two vectors FLUX reads."""

import functools
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers.models.clip.modeling_clip import CLIPTextModel
from transformers.models.clip.tokenization_clip import CLIPTokenizer
from transformers.models.t5.modeling_t5 import T5EncoderModel
from transformers.models.t5.tokenization_t5 import T5Tokenizer

from flux_endpoint.engine.lora.active import ActiveLoras, acting_on
from flux_endpoint.files.lora_names import Tower

# A client that varies seeds or sizes sends one prompt many times; 8 of FLUX.1-dev's take 64 MiB in float32.
_REMEMBERED_PROMPTS = 8


@dataclass(frozen=True, slots=True, eq=False)
class PromptEmbeds:
    """One prompt as the transformer reads it.

    Attributes:
        sequence: prompt embeds of T5, (1, limit, joint_attention_dim); padding included, as FLUX was trained with it.
            Behind them those of a picture, where the prompt has one.
        pooled: pooled embeds of CLIP, (1, pooled_projection_dim).
        tokens: T5 tokens of the whole prompt, its end mark included.
        limit: T5 tokens the transformer reads.
    """

    sequence: Tensor
    pooled: Tensor
    tokens: int
    limit: int

    @property
    def length(self) -> int:
        """Tokens of the sequence."""
        return self.sequence.shape[1]

    @property
    def is_cut(self) -> bool:
        """Whether the end of the prompt was left out."""
        return self.tokens > self.limit


class TextEncoder:
    """Both text encoders with their tokenizers, and the last few prompts they encoded.

    T5 decides whether a prompt counts as cut. CLIP reads 77 tokens at most and gives only the one pooled vector, so
    that its cut, which FLUX makes silently, costs a long prompt next to nothing.
    """

    def __init__(
        self, clip: CLIPTextModel, clip_tokenizer: CLIPTokenizer, t5: T5EncoderModel, t5_tokenizer: T5Tokenizer
    ) -> None:
        self._clip = clip
        self._clip_tokenizer = clip_tokenizer
        self._t5 = t5
        self._t5_tokenizer = t5_tokenizer
        self._remembered = functools.lru_cache(maxsize=_REMEMBERED_PROMPTS)(self._encode)

    @property
    def encoders(self) -> tuple[CLIPTextModel, T5EncoderModel]:
        """CLIP and T5."""
        return self._clip, self._t5

    def encode(self, prompt: str, max_tokens: int, loras: ActiveLoras | None = None) -> PromptEmbeds:
        """Encode one prompt on the encoders' device and in their dtype.

        Args:
            prompt: any text; may be empty.
            max_tokens: T5 tokens the model family reads: 512 for dev, 256 for schnell. A tokenizer made for fewer
                lowers it.
            loras: what changes the encoders; None for nothing.
        """
        limit = min(max_tokens, self._t5_tokenizer.model_max_length)
        if loras is None or not loras.changes(Tower.CLIP, Tower.T5):
            return self._remembered(prompt, limit)
        with acting_on(loras, Tower.CLIP, self._clip), acting_on(loras, Tower.T5, self._t5):
            return self._encode(prompt, limit)

    @torch.inference_mode()
    def _encode(self, prompt: str, limit: int) -> PromptEmbeds:
        token_ids = self._t5_tokenizer(
            prompt, padding="max_length", max_length=limit, truncation=True, return_tensors="pt"
        ).input_ids
        # verbose=False: transformers would log that the text is long, which is what is asked here.
        tokens = len(self._t5_tokenizer(prompt, verbose=False).input_ids)
        # No attention mask: FLUX was trained with the padding in view.
        sequence = self._t5(token_ids.to(self._t5.device))[0]
        return PromptEmbeds(sequence, self._encode_pooled(prompt), tokens, limit)

    def _encode_pooled(self, prompt: str) -> Tensor:
        token_ids = self._clip_tokenizer(
            prompt,
            padding="max_length",
            max_length=self._clip_tokenizer.model_max_length,
            truncation=True,
            return_tensors="pt",
        ).input_ids
        pooled: Tensor = self._clip(token_ids.to(self._clip.device)).pooler_output
        return pooled


def cut_warnings(positive: PromptEmbeds, negative: PromptEmbeds | None) -> tuple[str, ...]:
    """The sentences that tell a client how much was read of those of its prompts that were cut."""
    return tuple(
        f"{what} was cut: it has {embeds.tokens} tokens and the model reads the first {embeds.limit}."
        for what, embeds in (("prompt", positive), ("negative_prompt", negative))
        if embeds and embeds.is_cut
    )
