"""The speed levels of one loaded model: made, checked and measured when it is loaded."""

import logging
from collections.abc import Mapping, MutableMapping
from dataclasses import replace
from functools import partial
from typing import Final

import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.transformers.transformer_flux import FluxTransformer2DModel
from torch import Tensor

from flux_endpoint.core.acceleration import Acceleration
from flux_endpoint.core.negative_mode import NegativeMode
from flux_endpoint.engine.blocks import by_products, sdpa
from flux_endpoint.engine.channels_last import ChannelsLastDecoder, can_decode
from flux_endpoint.engine.decode import exact_decoder
from flux_endpoint.engine.denoise import Conditions, Velocity, exact_velocity
from flux_endpoint.engine.forward import Build, FusedTransformer
from flux_endpoint.engine.gpu.attention import Attention, choose_attention
from flux_endpoint.engine.gpu.ladder import Ladder
from flux_endpoint.engine.gpu.tools import cuda_tools
from flux_endpoint.engine.joined import can_join
from flux_endpoint.engine.latents import RenderSize
from flux_endpoint.engine.level import Level, Passes
from flux_endpoint.engine.linear import fast_dtype
from flux_endpoint.engine.lora.active import ActiveLoras
from flux_endpoint.engine.lora.merged import merged
from flux_endpoint.engine.nag import nag_velocity
from flux_endpoint.engine.probe import distance, make_probe, seconds_of
from flux_endpoint.engine.text import PromptEmbeds
from flux_endpoint.files.lora_names import Tower

_LOG = logging.getLogger(__name__)

# On a CPU the levels hold copies of the transformer, in float32 and bfloat16; beyond this many numbers only `none` is
# offered.
_MOST_PARAMETERS: Final = 250_000_000
# What a pass must come near to, as the length of the difference by the length of the velocity: a hundred times what
# other sums bring about, and five times what rounding to bfloat16 does.
_FARTHEST: Final = {torch.float32: 1e-4, torch.bfloat16: 5e-2}
_CHECKED: Final = RenderSize(0, 0, 16, 16)
_CHECKED_TEXT: Final = 64
# A CPU's attention is the first of these unless another is clearly faster for so many tokens: the embedded model's at
# 1024x1024.
_ATTENTIONS: Final = {"torch": sdpa, "products": by_products}
_ATTENDED: Final = 320
# On an AMD of Zen 4 products take .64 to .80 of torch's time in bfloat16 and 1.03 to 1.13 in float32. The limit lies
# between, so that all workers of a machine choose the same, whatever else it does.
_CLEARLY: Final = 0.9
_SLOWER: Final = {Acceleration.HIGH: Acceleration.REGULAR, Acceleration.REGULAR: Acceleration.NONE}


class Levels:
    """What a loaded model offers: `none`, and what is right and pays on this machine.

    Args:
        levels: by name, `none` among them.
        parts: what the bytes of pictures depend on beside device and libraries, for `fingerprint_of`.
        exact: passes of diffusers' own modules; None for those of `none`.
    """

    def __init__(
        self, levels: Mapping[Acceleration, Level], parts: Mapping[str, str], exact: Passes | None = None
    ) -> None:
        self._levels = levels
        self.parts = parts
        none = levels[Acceleration.NONE]
        self._exact = replace(none, passes=exact or none.passes)

    def level_for(
        self,
        asked: Acceleration,
        negative_mode: NegativeMode | None = None,
        *,
        has_loras: bool = False,
        has_control: bool = False,
    ) -> Level:
        """The level that a picture is drawn at: the one asked for, or the next slower one that can draw it.

        Args:
            asked: by the client.
            negative_mode: how a negative prompt acts; None where none does.
            has_loras: whether LoRAs act on the transformer.
            has_control: whether a ControlNet does, to which diffusers' own modules listen alone.
        """
        if has_control:
            return self._exact
        while not self._can_draw(asked, negative_mode, has_loras=has_loras):
            asked = _SLOWER[asked]
        return self._exact if has_loras and asked is Acceleration.NONE else self._levels[asked]

    def _can_draw(self, asked: Acceleration, negative_mode: NegativeMode | None, *, has_loras: bool) -> bool:
        if asked is Acceleration.NONE:
            return True
        level = self._levels.get(asked)
        if level is None or (has_loras and not level.takes_loras):
            return False
        return negative_mode is None or level.takes(negative_mode)


def make_levels(
    transformer: FluxTransformer2DModel,
    vae: AutoencoderKL,
    device: torch.device,
    times_s: MutableMapping[str, float] | None = None,
) -> Levels:
    """Make, check and measure the levels of a model that is loaded.

    Args:
        transformer: of the model.
        vae: of the model.
        device: where they are.
        times_s: of the same model when it was loaded before; see `Ladder`.
    """
    exact = exact_level(transformer, vae)
    if device.type == "cuda" and can_join(transformer, device):
        return _levels_on_gpu(Ladder(transformer, vae, exact, cuda_tools(device), times_s), exact.passes)
    parameters = sum(parameter.numel() for parameter in transformer.parameters())
    if device.type == "cpu" and parameters <= _MOST_PARAMETERS and transformer.dtype == torch.float32:
        return _levels_on_cpu(transformer, vae, exact)
    _LOG.info("Acceleration: only none is offered for this model as it is kept on %s", device)
    return Levels({exact.name: exact}, {})


def exact_level(transformer: FluxTransformer2DModel, vae: AutoencoderKL) -> Level:
    """Level `none` as diffusers draws it."""

    def passes(timesteps: Tensor, prompt: PromptEmbeds, conditions: Conditions) -> Velocity:
        return exact_velocity(transformer, timesteps, prompt, conditions)

    return Level(Acceleration.NONE, passes, exact_decoder(vae), nag=partial(nag_velocity, transformer))


def _levels_on_gpu(ladder: Ladder, exact: Passes) -> Levels:
    kept = []
    for rung in ladder.climb():
        _LOG.log(
            logging.INFO if rung.is_kept else logging.WARNING,
            "Acceleration: %s is %s: %s%s",
            rung.name,
            "used" if rung.is_kept else "not used",
            rung.words,
            "" if rung.distance is None else f", {rung.distance:.1e} off",
        )
        kept += [rung.name] if rung.is_kept else []
    parts = {"ladder": f"{' '.join(kept)} with {ladder.attention} attention {ladder.results_hash()}"}
    return Levels(ladder.levels(), parts, exact)


def _levels_on_cpu(transformer: FluxTransformer2DModel, vae: AutoencoderKL, exact: Level) -> Levels:
    levels, attentions = {Acceleration.NONE: exact}, []
    for name, dtype in ((Acceleration.REGULAR, torch.float32), (Acceleration.HIGH, fast_dtype())):
        attention = _attention_on_cpu(transformer, dtype)
        level = _fused(name, transformer, vae, Build(dtype, attend=attention.attend))
        off, share = _compare(transformer, level, exact)
        is_offered = off <= _FARTHEST[dtype]
        if is_offered:
            levels[name] = level
            attentions.append(f"{name} {attention.name}")
        _LOG.log(
            logging.INFO if is_offered and share < 1 else logging.WARNING,
            "Acceleration %s%s: a pass in %s takes %.2f of the exact one's time here and is %.0e off; attention: %s",
            name,
            "" if is_offered else " is not offered",
            str(dtype).removeprefix("torch."),
            share,
            off,
            attention.tried,
        )
    return Levels(levels, {"attention": " ".join(attentions)})


def _attention_on_cpu(transformer: FluxTransformer2DModel, dtype: torch.dtype) -> Attention:
    config = transformer.config
    heads, size = int(config.num_attention_heads), int(config.attention_head_dim)
    return choose_attention(_ATTENTIONS, heads, size, _ATTENDED, transformer.device, dtype, _CLEARLY)


def _fused(name: Acceleration, transformer: FluxTransformer2DModel, vae: AutoencoderKL, build: Build) -> Level:
    decoder = ChannelsLastDecoder(vae, build.dtype) if can_decode(vae) else exact_decoder(vae)
    is_high = name is Acceleration.HIGH
    # The worst case of a negative prompt in bfloat16 is not understood.
    passes = _FusedPasses(transformer, build)
    return Level(name, passes, decoder, is_extrapolated=is_high, takes_negative=not is_high, takes_loras=True)


class _FusedPasses:
    """`Passes` of a level on a CPU. With LoRAs, those of a copy of the transformer; the last one is kept."""

    def __init__(self, transformer: FluxTransformer2DModel, build: Build) -> None:
        self._transformer = transformer
        self._build = build
        self._plain = FusedTransformer(transformer, build)
        self._changed: tuple[ActiveLoras, FusedTransformer] | None = None

    def __call__(self, timesteps: Tensor, prompt: PromptEmbeds, conditions: Conditions) -> Velocity:
        fused = self._fused(conditions.loras)
        plan = fused.plan(timesteps, prompt, conditions)
        return lambda step, latents: fused.velocity(plan, step, latents)

    def _fused(self, loras: ActiveLoras | None) -> FusedTransformer:
        if loras is None or not loras.changes(Tower.TRANSFORMER):
            return self._plain
        if self._changed is None or self._changed[0].adapters != loras.adapters:
            # Never two of them, but for those that pictures in their midst hold on to.
            self._changed = None
            self._changed = loras, FusedTransformer(merged(self._transformer, loras), self._build)
        return self._changed[1]


def _compare(transformer: FluxTransformer2DModel, level: Level, exact: Level) -> tuple[float, float]:
    """How far a pass is off, and its CPU time by that of the exact one, of a small picture of noise."""
    probe = make_probe(transformer, _CHECKED, _CHECKED_TEXT)
    results, times = [], []
    for one in (exact, level):
        velocity = probe.velocity(one.passes)
        results.append(probe.ask(velocity))
        times.append(seconds_of(partial(probe.ask, velocity), transformer.device))
    return distance(results[1], results[0]), times[1] / times[0]
