"""The engine at each speed level, and diffusers.FluxPipeline, on the same modules: what `engine_gpu` times."""

import io
import math
import time
from dataclasses import dataclass, replace
from typing import Any, Final

import diffusers
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from benchmarks.random_flux import Sizes, fill, make_scheduler, meta_transformer, meta_vae, text_parts
from flux_endpoint.core.acceleration import Acceleration
from flux_endpoint.core.catalog import ModelFamily, ModelSpec
from flux_endpoint.core.generation import GenerationRequest
from flux_endpoint.core.image_formats import PNG
from flux_endpoint.engine.denoise import is_extrapolated
from flux_endpoint.engine.engine import FluxEngine
from flux_endpoint.engine.latents import draw_noise, pack_latents, render_size
from flux_endpoint.engine.levels import Levels
from flux_endpoint.engine.preview import Previewer
from flux_endpoint.engine.protocol import finish
from flux_endpoint.engine.rope import RopeCache
from flux_endpoint.engine.sources import Source, SourceKind
from flux_endpoint.engine.step_estimate import step_operations
from flux_endpoint.engine.text import TextEncoder
from flux_endpoint.engine.weights import LoadedModel

PROMPT: Final = "A serene mountain landscape at sunset, with a house by the lake"
GUIDANCE: Final = 3.5
SEED: Final = 7
PIPELINE: Final = "pipeline"


@dataclass(frozen=True)
class Case:
    """What is drawn."""

    spec: ModelSpec
    size_px: int
    steps: int

    def __str__(self) -> str:
        return f"{self.spec.family} {self.size_px}x{self.size_px} {self.steps} steps"

    def passes(self, *, is_high: bool) -> int:
        """How often the transformer is asked."""
        return sum(not (is_high and is_extrapolated(step, self.steps)) for step in range(self.steps))


@dataclass(frozen=True)
class Picture:
    """One picture.

    Attributes:
        wall_s: from prompt to the bytes of a file, the text encoders included.
        denoise_s: from the end of the first step to the end of the last.
        peak_gib: most device memory in use at once, weights included; None on the CPU.
        file: its bytes, as PNG.
    """

    wall_s: float
    denoise_s: float
    peak_gib: float | None
    file: bytes


class Contest:
    """All modules, once, and those who draw with them."""

    def __init__(self, sizes: Sizes, device: torch.device) -> None:
        self.levels: Levels | None = None
        self._device = device
        # The CPU multiplies it, too, and so runs what a GPU would.
        self._dtype = torch.bfloat16
        self._text = text_parts(sizes, device, self._dtype)
        self.vae = fill(meta_vae(sizes), device, self._dtype)
        self.transformer = fill(meta_transformer(sizes, ModelFamily.DEV), device, self._dtype)
        self.transformer.pos_embed = RopeCache(self.transformer.pos_embed, device)
        self._model = LoadedModel(
            text=TextEncoder(*self._text),
            transformer=self.transformer,
            vae=self.vae,
            previewer=Previewer(self.vae),
            scheduler_config=make_scheduler(ModelFamily.DEV).config,
            device=device,
            dtype=self._dtype,
        )

    def parameters(self) -> dict[str, int]:
        """Of each part."""
        clip, _, t5, _ = self._text
        parts = {"transformer": self.transformer, "vae": self.vae, "text_encoder": clip, "text_encoder_2": t5}
        return {name: sum(each.numel() for each in part.parameters()) for name, part in parts.items()}

    def operations(self, case: Case) -> int:
        """Of one pass: two for each product of two numbers that is added up."""
        shapes = {name: tuple(tensor.shape) for name, tensor in self.transformer.state_dict().items()}
        size = render_size(case.size_px, case.size_px, self._model.vae_scale_factor)
        return step_operations(shapes, size.token_rows * size.token_columns, case.spec.max_text_tokens)

    def draw(self, name: str, case: Case) -> Picture:
        """One picture, by the pipeline or at a level."""
        is_cuda = self._device.type == "cuda"
        if is_cuda:
            torch.cuda.synchronize()
            torch.cuda.reset_peak_memory_stats()
        started_s, marks = time.perf_counter(), _Marks(self._device)
        is_theirs = name == PIPELINE
        file = self._by_pipeline(case, marks) if is_theirs else self._by_engine(case, Acceleration(name), marks)
        wall_s = time.perf_counter() - started_s
        peak = torch.cuda.max_memory_allocated() / 2**30 if is_cuda else None
        return Picture(wall_s, marks.seconds(), None if peak is None else round(peak, 2), file)

    def _by_engine(self, case: Case, level: Acceleration, marks: "_Marks") -> bytes:
        if self.levels is None:
            raise ValueError("there are no levels yet")
        scheduler = make_scheduler(case.spec.family).config
        # A new memory of prompts, so that each picture pays for its text.
        model = replace(self._model, text=TextEncoder(*self._text), scheduler_config=scheduler)
        engine = _EngineInMemory(case.spec, model, self.levels)
        size = case.size_px
        request = GenerationRequest(PROMPT, "", size, size, case.steps, GUIDANCE, 1.0, SEED, PNG, level)
        image = finish(engine.generate(request), lambda _: marks.set())
        if image.acceleration is not level:
            raise ValueError(f"{image.acceleration} was drawn")
        return image.data

    def _by_pipeline(self, case: Case, marks: "_Marks") -> bytes:
        def step_done(_pipeline: Any, _step: int, _timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
            marks.set()
            return tensors

        clip, clip_tokenizer, t5, t5_tokenizer = self._text
        pipeline = diffusers.FluxPipeline(
            scheduler=make_scheduler(case.spec.family),
            vae=self.vae,
            text_encoder=clip,
            tokenizer=clip_tokenizer,
            text_encoder_2=t5,
            tokenizer_2=t5_tokenizer,
            transformer=self.transformer,
        )
        pipeline.set_progress_bar_config(disable=True)
        size = render_size(case.size_px, case.size_px, self._model.vae_scale_factor)
        image = pipeline(
            PROMPT,
            width=case.size_px,
            height=case.size_px,
            num_inference_steps=case.steps,
            guidance_scale=GUIDANCE,
            # The engine's: for the same seed the pipeline draws other noise, in the dtype of the model.
            latents=pack_latents(draw_noise(SEED, self._model.latent_channels, size)),
            max_sequence_length=case.spec.max_text_tokens,
            callback_on_step_end=step_done,
        ).images[0]
        buffer = io.BytesIO()
        image.save(buffer, "PNG", compress_level=1)
        return buffer.getvalue()


class _EngineInMemory(FluxEngine):
    """The engine with a model that was made in memory, in place of one that `load` reads from files."""

    def __init__(self, spec: ModelSpec, model: LoadedModel, levels: Levels) -> None:
        super().__init__(spec, Source(SourceKind.FOLDER, "random", "random weights", "random"), model.device)
        self._model = model
        self._levels = levels


class _Marks:
    """Moments on the device, marked without waiting for it."""

    def __init__(self, device: torch.device) -> None:
        self._is_cuda = device.type == "cuda"
        self._all: list[Any] = []

    def set(self) -> None:
        if not self._is_cuda:
            self._all.append(time.perf_counter())
            return
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        self._all.append(event)

    def seconds(self) -> float:
        """From the first to the last."""
        first, last = self._all[0], self._all[-1]
        if not self._is_cuda:
            return float(last - first)
        last.synchronize()
        return float(first.elapsed_time(last)) / 1000


def pixels_of(file: bytes) -> NDArray[np.int16]:
    """(height, width, 3)."""
    return np.asarray(Image.open(io.BytesIO(file))).astype(np.int16)


def psnr_db(one: NDArray[np.int16], other: NDArray[np.int16]) -> float | None:
    """None for equal pictures, which are infinitely near."""
    error = float(((one.astype(np.float64) - other) ** 2).mean())
    return None if error == 0 else round(10 * math.log10(255**2 / error), 2)
