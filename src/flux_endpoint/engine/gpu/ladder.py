"""The GPU ladder: one thing on top of another that makes a model faster, each kept where it is right and pays."""

import hashlib
import logging
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from dataclasses import dataclass, replace
from typing import Any, Final

import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.transformers.transformer_flux import FluxTransformer2DModel
from torch import Tensor

from flux_endpoint.core.acceleration import Acceleration
from flux_endpoint.engine.blocks import sdpa
from flux_endpoint.engine.decode import Decoder
from flux_endpoint.engine.denoise import Conditions, Velocity
from flux_endpoint.engine.forward import Build, FusedTransformer
from flux_endpoint.engine.gpu.attention import Attention, choose_attention
from flux_endpoint.engine.gpu.compiled import as_compiled, compile_blocks
from flux_endpoint.engine.gpu.decoder import CompiledDecoder
from flux_endpoint.engine.gpu.fp8 import Fp8Linear, can_be_fp8, product_that_adds
from flux_endpoint.engine.gpu.graphs import GraphedPass
from flux_endpoint.engine.gpu.tools import Tools
from flux_endpoint.engine.joined import join_weights
from flux_endpoint.engine.level import Level
from flux_endpoint.engine.linear import Float32Linear, Layer, Linear, MakeLayer
from flux_endpoint.engine.probe import Probe, distance, make_probe, seconds_of
from flux_endpoint.engine.text import PromptEmbeds

_LOG = logging.getLogger(__name__)

# A pass counts as faithful if it is no further from the same sums in float32 than diffusers' own pass, and a little.
_FAITHFUL: Final = 1.1
# Beyond this diffusers' pass or the one in float32 is wrong, and nothing can be said.
_FARTHEST_EXACT: Final = 0.2
# fp8 has four bits less than bfloat16: 16 times what rounding to that does, and a little.
_FARTHEST_FP8: Final = 0.3
_FARTHEST_PIXELS: Final = 5e-2
# Left free beside weights in fp8: activations of the largest pictures.
_ROOM_BYTES: Final = 4 << 30
_DIGITS: Final = 8


@dataclass(frozen=True, slots=True)
class Rung:
    """What became of one step of the ladder.

    Attributes:
        is_kept: whether it is right, and pays where nothing that comes later can make up for it.
        words: what was chosen, or why it is not kept.
        distance: of its result: of passes from the same sums in float32, of pixels from the exact decoder's.
        seconds: that a pass takes with it, or decoding the pixels.
        name: `attention`, `fused`, `compiled`, `graphs`, `fp8`, `decoder`.
    """

    is_kept: bool
    words: str = ""
    distance: float | None = None
    seconds: float | None = None
    name: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class _Pass:
    """One way to a velocity, from tensors alone."""

    fused: FusedTransformer
    run: Callable[..., Tensor]
    seconds: float

    def passes(self, timesteps: Tensor, prompt: PromptEmbeds, conditions: Conditions) -> Velocity:
        plan = self.fused.plan(timesteps, prompt, conditions)
        rotation = plan.tables[0]
        return lambda step, latents: self.run(latents, plan.text, plan.modulations[step], *rotation)


class Ladder:
    """Makes the speed levels of a model on a GPU.

    Args:
        transformer: its weights are joined in place and used by all levels, see `join_weights`.
        vae: of the model.
        exact: level `none` as diffusers draws it.
        tools: of the device.
        times_s: what was measured when the same model was climbed before, by name; what is not in it is measured, and
            added. Times differ, and what is loaded again must draw the same bytes.
    """

    def __init__(
        self,
        transformer: FluxTransformer2DModel,
        vae: AutoencoderKL,
        exact: Level,
        tools: Tools,
        times_s: MutableMapping[str, float] | None = None,
    ) -> None:
        self._transformer = transformer
        self._vae = vae
        self._exact = exact
        self._tools = tools
        self._times_s = {} if times_s is None else times_s
        self._attention = Attention("torch", sdpa)
        # Of the compiler for blocks; None once it has failed at them.
        self._backend = tools.backend
        self._probe: Probe = make_probe(transformer, tools.probe, tools.text_tokens)
        self._truth: Tensor | None = None
        self._exact_distance = 0.0
        self.exact_seconds = 0.0
        # Faithful passes, each made of the one before; the fastest is offered.
        self._faithful: list[_Pass] = []
        self._fp8: _Pass | None = None
        self._decoder: Decoder | None = None

    def climb(self) -> Iterator[Rung]:
        """Try one rung after another; what fails is left out, and is no reason not to try the next one."""
        rungs = (
            ("attention", self._choose_attention),
            ("fused", self._fuse),
            ("compiled", self._compile),
            ("graphs", self._record),
            ("fp8", self._quantise),
            ("decoder", self._compile_decoder),
        )
        for name, rung in rungs:
            try:
                yield replace(rung(), name=name)
            except Exception as error:
                # Compilers, drivers and kernels fail in any way they like, and a card without this rung still draws.
                _LOG.debug("the rung %s failed", name, exc_info=True)
                first, *_ = [*str(error).strip().splitlines(), ""]
                yield Rung(is_kept=False, words=f"{type(error).__name__}: {first}", name=name)

    def levels(self) -> Mapping[Acceleration, Level]:
        """What is offered now: `none` always, `regular` and `high` where something stands behind them."""
        decoder = self._decoder or self._exact.decoder
        best = self._best()
        exact = self._exact.passes if best is None else best.passes
        levels = {Acceleration.NONE: Level(Acceleration.NONE, exact, decoder, nag=self._exact.nag)}
        if self._fp8 is not None:
            levels[Acceleration.REGULAR] = Level(Acceleration.REGULAR, self._fp8.passes, decoder, takes_negative=False)
        fastest = exact if self._fp8 is None else self._fp8.passes
        levels[Acceleration.HIGH] = Level(
            Acceleration.HIGH, fastest, decoder, is_extrapolated=True, takes_negative=False
        )
        return levels

    @torch.inference_mode()
    def results_hash(self) -> str:
        """The last bits of what the levels do: no library tells which kernels it chose, but these do."""
        digest = hashlib.sha256()
        for level in self.levels().values():
            digest.update(_bytes_of(self._probe.ask(self._probe.velocity(level.passes))))
        if self._decoder is not None:
            digest.update(_bytes_of(_pixels(self._decoder, self._probe_latents())))
        return digest.hexdigest()[:_DIGITS]

    @property
    def attention(self) -> str:
        """Name of the attention that was chosen."""
        return self._attention.name

    def _best(self) -> _Pass | None:
        faster = [one for one in self._faithful if one.seconds < self.exact_seconds]
        return min(faster, key=lambda one: one.seconds, default=None)

    def _choose_attention(self) -> Rung:
        config, tools = self._transformer.config, self._tools
        self._attention = choose_attention(
            tools.attentions,
            int(config.num_attention_heads),
            int(config.attention_head_dim),
            self._probe.latents.shape[1] + tools.text_tokens,
            tools.device,
        )
        return Rung(
            is_kept=True, words=f"{self._attention.name} of {self._attention.tried}", seconds=self._attention.seconds
        )

    def _fuse(self) -> Rung:
        exact = self._probe.velocity(self._exact.passes)
        expected = self._probe.ask(exact)
        self.exact_seconds = self._timed("exact", lambda: self._probe.ask(exact))
        join_weights(self._transformer)
        truth = FusedTransformer(self._transformer, Build(torch.float32, Float32Linear, is_in_place=True))
        plan = truth.plan(self._probe.timesteps, self._probe.conditions.positive, self._probe.conditions)
        self._truth = truth.velocity(plan, 1, self._probe.latents.float())
        self._exact_distance = distance(expected, self._truth)
        if self._exact_distance > _FARTHEST_EXACT:
            raise ValueError(f"diffusers' own pass is {self._exact_distance:.0e} off")
        fused = self._fused(self._plain, self._attention)
        return self._judge("fused", fused, fused.run)

    def _compile(self) -> Rung:
        if self._backend is None:
            return _left_out("there is no compiler for this device")
        if not self._faithful:
            return _left_out("what it would compile is not right")
        try:
            compiled = self._compiled(self._plain)
        except Exception:
            self._backend = None
            raise
        return self._judge("compiled", compiled, _as_compiled(compiled))

    def _record(self) -> Rung:
        if self._tools.recorder is None or not self._faithful:
            return _left_out("there is nothing to record, or nothing to record with")
        last = self._faithful[-1]
        graphed = GraphedPass(last.run, self._tools.recorder)
        self._probe.ask(self._probe.velocity(_Pass(last.fused, graphed, 0.0).passes))
        if not graphed.has_recorded:
            return _left_out("the pass cannot be recorded: see the warning before this line")
        return self._judge("graphs", last.fused, graphed)

    def _compile_decoder(self) -> Rung:
        tools, latents = self._tools, self._probe_latents()
        if tools.backend is None:
            return _left_out("there is no compiler for this device")
        decoder = CompiledDecoder(self._vae, tools.backend, latents)
        off = distance(_pixels(decoder, latents), _pixels(self._exact.decoder, latents))
        before_s = self._timed("exact decoder", lambda: _pixels(self._exact.decoder, latents))
        seconds = self._timed("decoder", lambda: _pixels(decoder, latents))
        is_kept = off <= _FARTHEST_PIXELS and seconds < before_s
        self._decoder = decoder if is_kept else None
        return Rung(is_kept=is_kept, words=f"{seconds / before_s:.2f} of its time", distance=off, seconds=seconds)

    def _quantise(self) -> Rung:
        tools, best = self._tools, self._best()
        if tools.product is None:
            return _left_out("this device does not multiply fp8")
        if best is None:
            return _left_out("the pass that it would be built on is not right or does not pay")
        needed = sum(parameter.numel() for parameter in _block_weights(self._transformer)) + _ROOM_BYTES
        if (free := tools.free_bytes()) < needed:
            return _left_out(f"its weights need {needed >> 20} MiB and {free >> 20} are free")
        checked: set[tuple[int, ...]] = set()
        some = self._transformer.transformer_blocks[0].attn.to_out[0]
        product = product_that_adds(tools.product, some.weight, some.bias)

        def make(weight: Tensor, bias: Tensor | None) -> Layer:
            if not can_be_fp8(weight):
                return self._plain(weight, bias)
            layer = Fp8Linear(weight, bias, product)
            if (shape := tuple(weight.shape)) not in checked:
                checked.add(shape)
                layer.check()
            return layer

        fused = self._fused(make, self._attention) if self._backend is None else self._compiled(make)
        run = fused.run if self._backend is None else _as_compiled(fused)
        if tools.recorder is not None:
            run = GraphedPass(run, tools.recorder)
        made, off = self._measured("fp8", fused, run)
        is_kept = off <= _FARTHEST_FP8 and made.seconds < best.seconds
        self._fp8 = made if is_kept else None
        return Rung(is_kept=is_kept, words=self._share(made), distance=off, seconds=made.seconds)

    def _judge(self, name: str, fused: FusedTransformer, run: Callable[..., Tensor]) -> Rung:
        made, off = self._measured(name, fused, run)
        is_kept = off <= _FAITHFUL * self._exact_distance
        if is_kept:
            self._faithful.append(made)
        words = f"{self._share(made)}; diffusers is {self._exact_distance:.1e} off"
        return Rung(is_kept=is_kept, words=words, distance=off, seconds=made.seconds)

    def _measured(self, name: str, fused: FusedTransformer, run: Callable[..., Tensor]) -> tuple[_Pass, float]:
        if self._truth is None:
            raise ValueError("there is nothing to compare with")
        velocity = self._probe.velocity(_Pass(fused, run, 0.0).passes)
        off = distance(self._probe.ask(velocity), self._truth)
        return _Pass(fused, run, self._timed(name, lambda: self._probe.ask(velocity))), off

    def _timed(self, name: str, run: Callable[[], object]) -> float:
        if name not in self._times_s:
            self._times_s[name] = seconds_of(run, self._tools.device)
        return self._times_s[name]

    def _share(self, made: _Pass) -> str:
        return f"{made.seconds / self.exact_seconds:.2f} of the exact pass's time"

    def _plain(self, weight: Tensor, bias: Tensor | None) -> Layer:
        return Linear(weight, bias, self._transformer.dtype, is_packed=False)

    def _fused(self, make: MakeLayer, attention: Attention) -> FusedTransformer:
        build = Build(
            self._transformer.dtype,
            make_layer=make,
            make_outer=self._plain,
            attend=attention.attend,
            table_dtype=torch.float32,
            is_in_place=True,
        )
        return FusedTransformer(self._transformer, build)

    def _compiled(self, make: MakeLayer) -> FusedTransformer:
        fused = self._fused(make, self._attention)
        try:
            return self._with_compiled_blocks(fused)
        except Exception as error:
            if self._attention.attend is sdpa:
                raise
            problem = str(error).strip().partition("\n")[0]
            _LOG.debug("the compiler failed", exc_info=True)
        # It may not take an attention that runs well by itself; torch's own choice it always takes.
        torchs = Attention("torch", sdpa)
        fused = self._with_compiled_blocks(self._fused(make, torchs))
        _LOG.warning("the compiler does not take %s attention: %s", self._attention.name, problem)
        self._attention = torchs
        return fused

    def _with_compiled_blocks(self, fused: FusedTransformer) -> FusedTransformer:
        velocity = self._probe.velocity(_Pass(fused, fused.run, 0.0).passes)
        compile_blocks(fused, str(self._backend), lambda: self._probe.ask(velocity))
        return fused

    def _probe_latents(self) -> Tensor:
        size, random = self._tools.probe, torch.Generator().manual_seed(1)
        shape = (1, int(self._vae.config.latent_channels), size.latent_height, size.latent_width)
        return torch.randn(shape, generator=random).to(self._tools.device, self._vae.dtype)


def _left_out(words: str) -> Rung:
    return Rung(is_kept=False, words=words)


def _as_compiled(fused: FusedTransformer) -> Callable[..., Tensor]:
    def run(*inputs: Tensor) -> Tensor:
        with as_compiled():
            return fused.run(*inputs)

    return run


def _pixels(decoder: Decoder, latents: Tensor) -> Tensor:
    """All slices, one right after the other."""
    slices = decoder(latents)
    while True:
        try:
            next(slices)
        except StopIteration as end:
            pixels: Tensor = end.value
            return pixels


def _block_weights(transformer: Any) -> Iterator[Tensor]:
    """Of the layers that `FusedTransformer` makes of blocks, without their modulations."""
    for name, parameter in transformer.named_parameters():
        if "transformer_blocks." in name and "norm" not in name and parameter.ndim > 1:
            yield parameter


def _bytes_of(tensor: Tensor) -> bytes:
    return tensor.float().cpu().numpy().tobytes()
