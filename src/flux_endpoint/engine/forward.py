"""FLUX's forward pass for one picture, the same on every device: what all its steps share is made before the first."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from diffusers.models.transformers.transformer_flux import FluxTransformer2DModel
from torch import Tensor
from torch.nn import functional

from flux_endpoint.engine.blocks import (
    MODULATIONS,
    Attend,
    DoubleBlock,
    Heads,
    Pair,
    SingleBlock,
    Stream,
    modulated_norm,
    sdpa,
)
from flux_endpoint.engine.denoise import Conditions
from flux_endpoint.engine.joined import joined
from flux_endpoint.engine.linear import Layer, Linear, MakeLayer
from flux_endpoint.engine.text import PromptEmbeds

# How blocks are run: themselves, or what a compiler made of them.
RunDouble = Callable[[DoubleBlock, Tensor, Tensor, Tensor, Pair], Pair]
RunSingle = Callable[[SingleBlock, Tensor, Tensor, Pair], Tensor]


@dataclass(frozen=True, slots=True, eq=False)
class Plan:
    """What all steps of one picture share for one prompt.

    Attributes:
        text: (text tokens, width), embedded.
        modulations: (steps, parts, width): shifts, scales and gates of all blocks, and of the last norm.
        tables: for each block its rotary tables; the rotation alone, once, where blocks make tables of it.
    """

    text: Tensor
    modulations: Tensor
    tables: Sequence[Pair]


@dataclass(frozen=True, slots=True)
class Build:
    """How a pass is built of a transformer.

    Attributes:
        dtype: of the blocks.
        make_layer: for the blocks; None for `Linear` in `dtype`.
        make_outer: for what lies around them; None for the same.
        attend: how queries, keys and values are compared.
        table_dtype: in which queries and keys are turned; None for `dtype`.
        is_in_place: whether weights are used where `join_weights` has laid them: no memory beside that of the
            transformer, products as large as can be, and small operations that a compiler joins. Otherwise they are
            copied into the layouts that are fastest as they stand.
    """

    dtype: torch.dtype
    make_layer: MakeLayer | None = None
    make_outer: MakeLayer | None = None
    attend: Attend = sdpa
    table_dtype: torch.dtype | None = None
    is_in_place: bool = False


class FusedTransformer:
    """A FLUX transformer whose steps share what they can.

    All modulations are made before the first step, in float32 whatever the dtype
    (docs/decisions/0029-conditioning-in-float32.md). It holds no state of a picture.

    Args:
        transformer: whose weights are copied, but for those of the conditioning; see `Build.is_in_place`.
        build: how.
    """

    def __init__(self, transformer: FluxTransformer2DModel, build: Build) -> None:
        self._conditioning = transformer
        self._build = build
        self._make: MakeLayer = build.make_layer or (lambda weight, bias: Linear(weight, bias, build.dtype))
        make_outer = build.make_outer or self._make
        self._heads = Heads(
            count=int(transformer.config.num_attention_heads),
            size=int(transformer.config.attention_head_dim),
            are_pairs_apart=not build.is_in_place,
            table_dtype=build.table_dtype or build.dtype,
            attend=build.attend,
        )
        self._order = self._heads.order().to(transformer.device)
        self._image_in = _layer(make_outer, transformer.x_embedder)
        self._text_in = _layer(make_outer, transformer.context_embedder)
        self._out = _layer(make_outer, transformer.proj_out)
        self._double = [self._double_block(block) for block in transformer.transformer_blocks]
        self._single = [self._single_block(block) for block in transformer.single_transformer_blocks]
        self.run_double: RunDouble = DoubleBlock.__call__
        self.run_single: RunSingle = SingleBlock.__call__

    @torch.inference_mode()
    def plan(self, timesteps: Tensor, prompt: PromptEmbeds, conditions: Conditions) -> Plan:
        """Make what all steps of a picture share.

        Args:
            timesteps: (steps,), float32, 1000 to 0.
            prompt: the one that steers.
            conditions: of the picture; its prompts are not read.
        """
        ids = torch.cat([torch.zeros(prompt.length, 3), conditions.ids_read])
        cosines, sines = self._conditioning.pos_embed(ids)
        # Each number stands there twice, once for either half of its pair.
        rotation = (cosines[:, ::2].contiguous(), sines[:, ::2].contiguous())
        tables = [rotation]
        if not self._build.is_in_place:
            tables = [block.tables(rotation, prompt.length) for block in self._double]
            tables += [block.tables(rotation) for block in self._single]
        return Plan(
            text=self._text_in(prompt.sequence[0].to(self._build.dtype)),
            modulations=self._modulations(timesteps, prompt, conditions),
            tables=tables,
        )

    @torch.inference_mode()
    def velocity(self, plan: Plan, step: int, latents: Tensor) -> Tensor:
        """One forward pass.

        Args:
            plan: of the picture.
            step: 0 for the first.
            latents: packed, (1, image tokens, in_channels), any floating dtype.

        Returns:
            The predicted velocity, shape and dtype of `latents`.
        """
        blocks = len(self._double) + len(self._single)
        tables = plan.tables if len(plan.tables) == blocks else [*plan.tables] * blocks
        return self._run(latents[0], plan.text, plan.modulations[step], tables)[None].to(latents.dtype)

    @torch.inference_mode()
    def run(self, latents: Tensor, text: Tensor, modulations: Tensor, cosines: Tensor, sines: Tensor) -> Tensor:
        """The predicted velocity from tensors alone, as they are in the plan of a pass in place.

        Args:
            latents: (1, image tokens, in_channels).
            text: (text tokens, width).
            modulations: of this step, (parts, width).
            cosines: (tokens, half a head).
            sines: likewise.
        """
        tables = [(cosines, sines)] * (len(self._double) + len(self._single))
        return self._run(latents[0], text, modulations, tables)[None].to(latents.dtype)

    def _run(self, latents: Tensor, text: Tensor, modulations: Tensor, tables: Sequence[Pair]) -> Tensor:
        image, start = self._image_in(latents.to(self._build.dtype)), 0
        for block, pair in zip(self._double, tables[: len(self._double)], strict=True):
            end = start + 4 * MODULATIONS
            image, text = self.run_double(block, image, text, modulations[start:end], pair)
            start = end
        hidden = torch.cat([text, image])
        for single, pair in zip(self._single, tables[len(self._double) :], strict=True):
            end = start + MODULATIONS
            hidden = self.run_single(single, hidden, modulations[start:end], pair)
            start = end
        scale, shift = modulations[start:]
        result: Tensor = self._out(modulated_norm(hidden[len(text) :], scale, shift))
        return result

    def _modulations(self, timesteps: Tensor, prompt: PromptEmbeds, conditions: Conditions) -> Tensor:
        """Shifts, scales and gates of all norms in all steps, (steps, of them, width), with 1 added to the scales."""
        modules: Any = self._conditioning
        embed = modules.time_text_embed
        pooled = prompt.pooled.float().expand(len(timesteps), -1)
        embedded = _wide(embed.timestep_embedder, embed.time_proj(timesteps))
        if conditions.guidance is not None:
            guidance = conditions.guidance.expand(len(timesteps)) * 1000
            embedded = embedded + _wide(embed.guidance_embedder, embed.time_proj(guidance))
        embedded = functional.silu(embedded + _wide(embed.text_embedder, pooled))
        parts = []
        for block in modules.transformer_blocks:
            parts += [self._modulation(norm, embedded, 1, 4) for norm in (block.norm1, block.norm1_context)]
        parts += [self._modulation(block.norm, embedded, 1) for block in modules.single_transformer_blocks]
        return torch.cat([*parts, self._modulation(modules.norm_out, embedded, 0)], dim=1)

    def _modulation(self, norm: Any, embedded: Tensor, *scales: int) -> Tensor:
        parts = _product(norm.linear, embedded).view(len(embedded), -1, self._heads.width)
        for scale in scales:
            parts[:, scale] += 1
        return parts.to(self._build.dtype)

    def _double_block(self, block: Any) -> DoubleBlock:
        attention = block.attn
        image = Stream(
            qkv=self._first(attention.to_q, attention.to_k, attention.to_v),
            out=_layer(self._make, attention.to_out[0]),
            up=_layer(self._make, block.ff.net[0].proj),
            down=_layer(self._make, block.ff.net[2]),
            norm_q=attention.norm_q.weight[self._order],
            norm_k=attention.norm_k.weight[self._order],
        )
        text = Stream(
            qkv=self._first(attention.add_q_proj, attention.add_k_proj, attention.add_v_proj),
            out=_layer(self._make, attention.to_add_out),
            up=_layer(self._make, block.ff_context.net[0].proj),
            down=_layer(self._make, block.ff_context.net[2]),
            norm_q=attention.norm_added_q.weight[self._order],
            norm_k=attention.norm_added_k.weight[self._order],
        )
        return DoubleBlock(image, text, self._heads, keeps_tables=not self._build.is_in_place)

    def _single_block(self, block: Any) -> SingleBlock:
        attention, out, width = block.attn, block.proj_out, self._heads.width
        layers = [attention.to_q, attention.to_k, attention.to_v]
        is_joined = self._build.is_in_place
        return SingleBlock(
            qkv=self._first(*layers, block.proj_mlp) if is_joined else self._first(*layers),
            up=None if is_joined else _layer(self._make, block.proj_mlp),
            out=self._make(out.weight[:, :width], out.bias),
            down=self._make(out.weight[:, width:], None),
            norm_q=attention.norm_q.weight[self._order],
            norm_k=attention.norm_k.weight[self._order],
            heads=self._heads,
            keeps_tables=not self._build.is_in_place,
        )

    def _first(self, q: Any, k: Any, *others: Any) -> Layer:
        """The layer that queries, keys and values come from, and what else reads the same."""
        layers = (q, k, *others)
        weights, biases = [layer.weight for layer in layers], [layer.bias for layer in layers]
        if self._heads.are_pairs_apart:
            rows = torch.cat([self._order + head * self._heads.size for head in range(self._heads.count)])
            weights[:2] = [weight[rows] for weight in weights[:2]]
            biases[:2] = [bias[rows] for bias in biases[:2]]
        return self._make(joined(weights), joined(biases))


def _layer(make: MakeLayer, layer: Any) -> Layer:
    return make(layer.weight, layer.bias)


def _product(layer: Any, rows: Tensor) -> Tensor:
    """In float32, whatever the weights are in."""
    return functional.linear(rows, layer.weight.float(), layer.bias.float())


def _wide(embedder: Any, rows: Tensor) -> Tensor:
    """An embedder of time, guidance or the pooled prompt: two layers with SiLU between them, in float32."""
    return _product(embedder.linear_2, functional.silu(_product(embedder.linear_1, rows)))
