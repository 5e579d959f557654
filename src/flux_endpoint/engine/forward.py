"""FLUX's forward pass for one picture, in fewer and larger operations than diffusers' modules make of it."""

from dataclasses import dataclass
from typing import Any

import torch
from diffusers.models.transformers.transformer_flux import FluxTransformer2DModel
from torch import Tensor
from torch.nn import functional

from flux_endpoint.engine.denoise import Conditions
from flux_endpoint.engine.linear import Linear
from flux_endpoint.engine.text import PromptEmbeds

# Of all its layer and RMS norms.
_EPS = 1e-6
_Pair = tuple[Tensor, Tensor]


@dataclass(frozen=True, slots=True, eq=False)
class Stream:
    """One of the two streams, text or image, of a double block."""

    qkv: Linear
    out: Linear
    up: Linear
    down: Linear
    norm_q: Tensor
    norm_k: Tensor


@dataclass(frozen=True, slots=True, eq=False)
class SingleBlock:
    """One block in which text and image are one sequence. Its output layer is cut in two: no concatenation."""

    qkv: Linear
    up: Linear
    out: Linear
    down: Linear
    norm_q: Tensor
    norm_k: Tensor


@dataclass(frozen=True, slots=True, eq=False)
class Plan:
    """What all steps of one picture share for one prompt.

    Attributes:
        text: (text tokens, width), embedded.
        double: for each double block the modulations of image and text, (steps, 6, width).
        single: for each single block its modulation, (steps, 3, width).
        last: (steps, 2, width).
        double_tables: for each double block the rotary tables, see `FusedTransformer._tables`.
        single_tables: for each single block.
    """

    text: Tensor
    double: list[tuple[Tensor, Tensor]]
    single: list[Tensor]
    last: Tensor
    double_tables: list[_Pair]
    single_tables: list[_Pair]


class FusedTransformer:
    """A FLUX transformer whose steps share what they can.

    All modulations are made before the first step, in float32 whatever the dtype
    (docs/decisions/0029-conditioning-in-float32.md). Shift and scale are weight and bias of the norm before them; the
    norms of queries and keys are part of the rotary tables. It holds no state of a picture.

    Args:
        transformer: float32; its weights are copied, but for those of the conditioning.
        dtype: of the blocks.
        is_packed: see `Linear`.
    """

    def __init__(
        self, transformer: FluxTransformer2DModel, dtype: torch.dtype, *, is_packed: bool | None = None
    ) -> None:
        self._conditioning = transformer
        self._dtype = dtype
        self._is_packed = is_packed
        self._heads = int(transformer.config.num_attention_heads)
        self._head_size = int(transformer.config.attention_head_dim)
        self._width = self._heads * self._head_size
        # Pairs that turn together lie side by side in the checkpoint; here their halves follow each other.
        self._order = torch.cat([torch.arange(0, self._head_size, 2), torch.arange(1, self._head_size, 2)])
        self._image_in = self._linear(transformer.x_embedder)
        self._text_in = self._linear(transformer.context_embedder)
        self._out = self._linear(transformer.proj_out)
        self._double = [self._streams(block) for block in transformer.transformer_blocks]
        self._single = [self._single_block(block) for block in transformer.single_transformer_blocks]

    @torch.inference_mode()
    def plan(self, timesteps: Tensor, prompt: PromptEmbeds, conditions: Conditions) -> Plan:
        """Make what all steps of a picture share.

        Args:
            timesteps: (steps,), float32, 1000 to 0.
            prompt: the one that steers.
            conditions: of the picture; its prompts are not read.
        """
        modules = self._conditioning
        pooled = prompt.pooled.float().expand(len(timesteps), -1)
        guidance = conditions.guidance
        if guidance is None:
            embedded = modules.time_text_embed(timesteps, pooled)
        else:
            embedded = modules.time_text_embed(timesteps, guidance.expand(len(timesteps)) * 1000, pooled)
        embedded = functional.silu(embedded)
        ids = torch.cat([torch.zeros(prompt.limit, 3), conditions.image_ids])
        cosines, sines = (table[:, ::2] for table in modules.pos_embed(ids))
        text, image = slice(0, prompt.limit), slice(prompt.limit, None)
        double_tables = []
        for of_image, of_text in self._double:
            text_tables = self._tables(of_text, cosines[text], sines[text])
            image_tables = self._tables(of_image, cosines[image], sines[image])
            straight, rolled = (torch.cat(pair) for pair in zip(text_tables, image_tables, strict=True))
            double_tables.append((straight, rolled))
        return Plan(
            text=self._text_in(prompt.sequence[0].to(self._dtype)),
            double=[
                (self._modulation(block.norm1, embedded, 1, 4), self._modulation(block.norm1_context, embedded, 1, 4))
                for block in modules.transformer_blocks
            ],
            single=[self._modulation(block.norm, embedded, 1) for block in modules.single_transformer_blocks],
            last=self._modulation(modules.norm_out, embedded, 0),
            double_tables=double_tables,
            single_tables=[self._tables(block, cosines, sines) for block in self._single],
        )

    @torch.inference_mode()
    def velocity(self, plan: Plan, step: int, latents: Tensor) -> Tensor:
        """One forward pass.

        Args:
            plan: of the picture.
            step: 0 for the first.
            latents: packed, (1, image tokens, in_channels), float32.

        Returns:
            The predicted velocity, shape and dtype of `latents`.
        """
        image, text = self._image_in(latents[0].to(self._dtype)), plan.text
        for streams, modulations, tables in zip(self._double, plan.double, plan.double_tables, strict=True):
            image, text = self._double_step(streams, (modulations[0][step], modulations[1][step]), tables, image, text)
        hidden = torch.cat([text, image])
        for block, modulation, tables in zip(self._single, plan.single, plan.single_tables, strict=True):
            shift, scale, gate = modulation[step]
            normed = self._norm(hidden, scale, shift)
            attended = self._attention(block.qkv(normed), tables)
            hidden = torch.addcmul(hidden, block.down.plus(block.up.gelu(normed), block.out(attended)), gate)
        scale, shift = plan.last[step]
        return self._out(self._norm(hidden[len(text) :], scale, shift))[None].to(latents.dtype)

    def _double_step(
        self, streams: tuple[Stream, Stream], modulations: _Pair, tables: _Pair, image: Tensor, text: Tensor
    ) -> tuple[Tensor, Tensor]:
        of_image, of_text = streams
        image_parts, text_parts = modulations
        qkv = [
            stream.qkv(self._norm(hidden, parts[1], parts[0]))
            for stream, hidden, parts in ((of_text, text, text_parts), (of_image, image, image_parts))
        ]
        attended = self._attention(torch.cat(qkv), tables)
        image = self._finish(of_image, image, attended[len(text) :], image_parts)
        return image, self._finish(of_text, text, attended[: len(text)], text_parts)

    def _finish(self, stream: Stream, hidden: Tensor, attended: Tensor, parts: Tensor) -> Tensor:
        """The rest of a double block for one stream."""
        hidden = torch.addcmul(hidden, stream.out(attended), parts[2])
        wide = stream.up.gelu(self._norm(hidden, parts[4], parts[3]))
        return torch.addcmul(hidden, stream.down(wide), parts[5])

    def _norm(self, hidden: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
        return functional.layer_norm(hidden, (self._width,), scale, shift, _EPS)

    def _attention(self, qkv: Tensor, tables: _Pair) -> Tensor:
        """(tokens, 3 * width) to (tokens, width)."""
        tokens = len(qkv)
        both = qkv[:, : 2 * self._width].reshape(tokens, 2 * self._heads, self._head_size)
        both = functional.rms_norm(both, (self._head_size,), None, _EPS)
        turned = both.roll(self._head_size // 2, -1)
        both = both.mul_(tables[0]).addcmul_(turned, tables[1])
        values = qkv[:, 2 * self._width :].view(tokens, self._heads, self._head_size)
        parts = both[:, : self._heads], both[:, self._heads :], values
        query, key, value = (part.transpose(0, 1)[None] for part in parts)
        attended = functional.scaled_dot_product_attention(query, key, value)[0]
        return attended.transpose(0, 1).reshape(tokens, self._width)

    def _tables(self, norms: Stream | SingleBlock, cosines: Tensor, sines: Tensor) -> _Pair:
        """What queries and keys, and the same rolled by half a head, are multiplied with: two of (tokens, heads, size).

        Args:
            norms: the weights of the norms of queries and keys, which come before the rotation.
            cosines: (tokens, half a head).
            sines: likewise.
        """
        straight, rolled = [], []
        for weights in (norms.norm_q, norms.norm_k):
            real, imaginary = weights.chunk(2)
            straight += [torch.cat([cosines * real, cosines * imaginary], dim=1)] * self._heads
            rolled += [torch.cat([-sines * imaginary, sines * real], dim=1)] * self._heads
        return torch.stack(straight, dim=1).to(self._dtype), torch.stack(rolled, dim=1).to(self._dtype)

    def _modulation(self, norm: Any, embedded: Tensor, *scales: int) -> Tensor:
        """Shifts, scales and gates of a norm in all steps, (steps, of them, width), with 1 added to the scales."""
        parts: Tensor = norm.linear(embedded).unflatten(-1, (-1, self._width))
        for scale in scales:
            parts[:, scale] += 1
        return parts.to(self._dtype)

    def _streams(self, block: Any) -> tuple[Stream, Stream]:
        attention = block.attn
        return (
            Stream(
                qkv=self._qkv(attention.to_q, attention.to_k, attention.to_v),
                out=self._linear(attention.to_out[0]),
                up=self._linear(block.ff.net[0].proj),
                down=self._linear(block.ff.net[2]),
                norm_q=attention.norm_q.weight[self._order],
                norm_k=attention.norm_k.weight[self._order],
            ),
            Stream(
                qkv=self._qkv(attention.add_q_proj, attention.add_k_proj, attention.add_v_proj),
                out=self._linear(attention.to_add_out),
                up=self._linear(block.ff_context.net[0].proj),
                down=self._linear(block.ff_context.net[2]),
                norm_q=attention.norm_added_q.weight[self._order],
                norm_k=attention.norm_added_k.weight[self._order],
            ),
        )

    def _single_block(self, block: Any) -> SingleBlock:
        attention, out = block.attn, block.proj_out
        return SingleBlock(
            qkv=self._qkv(attention.to_q, attention.to_k, attention.to_v),
            up=self._linear(block.proj_mlp),
            out=self._packed(out.weight[:, : self._width], out.bias),
            down=self._packed(out.weight[:, self._width :], None),
            norm_q=attention.norm_q.weight[self._order],
            norm_k=attention.norm_k.weight[self._order],
        )

    def _qkv(self, q: Any, k: Any, v: Any) -> Linear:
        rows = torch.cat([self._order + head * self._head_size for head in range(self._heads)])
        weights = [q.weight[rows], k.weight[rows], v.weight]
        return self._packed(torch.cat(weights), torch.cat([q.bias[rows], k.bias[rows], v.bias]))

    def _linear(self, layer: Any) -> Linear:
        return self._packed(layer.weight, layer.bias)

    def _packed(self, weight: Tensor, bias: Tensor | None) -> Linear:
        return Linear(weight, bias, self._dtype, is_packed=self._is_packed)
