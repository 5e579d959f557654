"""The FLUX.1 engine: the numbered story of one picture."""

import gc
import logging
import time
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import partial

import torch

from flux_endpoint.core.catalog import ModelSpec
from flux_endpoint.core.errors import CheckpointError, OutOfMemory
from flux_endpoint.core.generation import GenerationRequest
from flux_endpoint.engine.allocator import give_back_freed_memory, keep_freed_memory
from flux_endpoint.engine.calibration import CALIBRATION, time_step
from flux_endpoint.engine.decode import crop_to, decode_latents
from flux_endpoint.engine.denoise import Conditions, predict_clean
from flux_endpoint.engine.device import is_out_of_memory, watching
from flux_endpoint.engine.drawn_from import read_control, read_sources
from flux_endpoint.engine.encode import encode_image
from flux_endpoint.engine.fingerprint import fingerprint_of
from flux_endpoint.engine.gpu.pace import Pace
from flux_endpoint.engine.joined import can_join
from flux_endpoint.engine.kernels import fingerprint_parts
from flux_endpoint.engine.latents import RenderSize, draw_noise, image_ids, pack_latents, render_size, unpack_latents
from flux_endpoint.engine.latents_file import latents_writer, read_latents
from flux_endpoint.engine.level import Level
from flux_endpoint.engine.levels import Levels, make_levels
from flux_endpoint.engine.lora.active import ActiveLoras
from flux_endpoint.engine.lora.cache import LoraCache
from flux_endpoint.engine.memory_plan import AUTO, MemoryMode, MemoryPlan
from flux_endpoint.engine.parameters import DEFAULT_RULES, FileRules, picture_parameters
from flux_endpoint.engine.protocol import NO_SOURCES, Drawing, EncodedImage, ModelInfo, StepDone
from flux_endpoint.engine.redux import with_picture
from flux_endpoint.engine.residence import Residence
from flux_endpoint.engine.schedule import make_scheduler
from flux_endpoint.engine.sharing import SharedComponents
from flux_endpoint.engine.sources import Source, naming
from flux_endpoint.engine.text import PromptEmbeds, cut_warnings
from flux_endpoint.engine.weights import (
    LoadedModel,
    check_checkpoint,
    load_checkpoint,
    needs_of,
    notice_for,
    plan_memory,
)
from flux_endpoint.files.lora_names import Tower
from flux_endpoint.files.lora_shelf import FolderShelf

_LOG = logging.getLogger(__name__)


class FluxEngine:
    """FLUX.1-dev or -schnell on one device.

    Args:
        spec: the endpoint it serves.
        source: what to load.
        device: where to.
        threads: CPU threads of torch, for the whole process; None leaves torch's own choice, one per core.
        available_bytes: free memory of the device; None to ask it.
        memory: how the model is kept: a mode of `MemoryMode`, or `auto`.
        shared: what other engines of this process have loaded; None for an engine by itself.
        loras: that requests may name; None for none.
    """

    def __init__(
        self,
        spec: ModelSpec,
        source: Source,
        device: torch.device,
        threads: int | None = None,
        available_bytes: int | None = None,
        memory: str = AUTO,
        shared: SharedComponents | None = None,
        rules: FileRules = DEFAULT_RULES,
        loras: LoraCache | None = None,
    ) -> None:
        self._spec = spec
        self._source = source
        self._device = device
        self._threads = threads
        self._available_bytes = available_bytes
        self._memory = memory
        self._shared = shared or SharedComponents()
        self._rules = rules
        self._loras = loras or LoraCache(FolderShelf(()), 0)
        self._model: LoadedModel | None = None
        self._levels: Levels | None = None
        self._residence: Residence | None = None
        # What the levels were chosen by; see `make_levels`.
        self._times_s: dict[str, float] = {}
        self._pace = Pace(device)
        self._is_released = False
        # Pictures that have begun and not ended: their generators hold the weights.
        self._drawing = 0
        self._idle_since_s = time.monotonic()
        controlnet = source.add_ons.controlnet
        self._info = ModelInfo(
            source.name,
            spec.family,
            str(device),
            notice_for(source, spec.family),
            controlnet=controlnet.name if controlnet else "",
        )

    @property
    def info(self) -> ModelInfo:
        """See `Engine.info`."""
        return self._info

    def load(self) -> None:
        """See `Engine.load`."""
        if self._model is None:
            with watching(self._device), self._with_room_for("the model"):
                self._load()

    def _load(self) -> None:
        checkpoint = check_checkpoint(self._source, self._spec.family, download=True)
        needs = needs_of(checkpoint, self._device, self._shared)
        plan = plan_memory(checkpoint, needs, self._device, self._memory, self._available_bytes)
        _LOG.info("%s is kept in memory mode %s", self._source.name, plan)
        if self._threads is not None:
            torch.set_num_threads(self._threads)
        if self._device.type == "cpu" and plan.placement.mode is not MemoryMode.LOW:
            keep_freed_memory()
        with naming(self._source):
            model = load_checkpoint(checkpoint, self._device, self._shared, plan.placement)
        self._offer_levels(model, plan)
        # Only now: what has failed halfway is loaded anew by the next picture.
        self._model, self._residence = model, Residence(checkpoint, needs, plan)
        self._is_released, self._idle_since_s = False, time.monotonic()

    def generate(self, request: GenerationRequest, sources: Mapping[str, bytes] = NO_SOURCES) -> Drawing:
        """See `Engine.generate`."""
        with watching(self._device):
            return (yield from self._generate(request, sources))

    def _generate(self, request: GenerationRequest, sources: Mapping[str, bytes]) -> Drawing:
        is_retry = False
        self._drawing += 1
        try:
            if self._is_released:
                self.load()
            while True:
                model, levels = self._loaded()
                try:
                    return (yield from self._draw(model, levels, request, sources))
                except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
                    if not is_out_of_memory(error):
                        raise
                    problem = str(error)
                # Here and not above: the error holds the tensors of the picture that did not fit.
                if is_retry or not self._be_thriftier():
                    raise OutOfMemory(
                        f"{self._device} has too little memory for this picture, also in {self._mode} mode"
                    )
                _LOG.warning("out of memory, tried again in %s mode (%s)", self._mode, problem.partition("\n")[0])
                is_retry = True
        finally:
            self._drawing -= 1
            self._idle_since_s = time.monotonic()
            if self._is_released and not self._drawing:
                self._free()

    def _draw(
        self, model: LoadedModel, levels: Levels, request: GenerationRequest, sources: Mapping[str, bytes]
    ) -> Drawing:
        size = render_size(request.width, request.height, model.vae_scale_factor)
        # 1. Words to vectors; a negative prompt costs time in every step, so only where it acts.
        loras = self._active_loras(model, request)
        positive, negative = yield from self._read_prompts(model, request, sources, loras)
        # 2. Noise, from the seed alone.
        noise = pack_latents(draw_noise(request.seed, model.latent_channels, size)).to(model.device, model.dtype)
        # 3. The noise levels to visit, and where to begin: in noise, or in a picture under as much of it as asked for.
        scheduler = make_scheduler(model.scheduler_config, request.num_inference_steps, noise.shape[1], model.device)
        latents, skipped = noise, request.num_inference_steps - request.whole_steps
        source, beside = yield from read_sources(model.vae, self._spec.family, request, sources, size, noise)
        if source is not None:
            latents = source.under_noise(scheduler.sigmas[skipped])
        guidance = self._guidance(request, model)
        control = yield from read_control(model.vae, model.controlnet, request, sources, size, positive, guidance)
        latents, known = read_latents(sources, request, self._info, latents)
        scheduler.set_begin_index(skipped + request.steps_done)
        timesteps = scheduler.timesteps[skipped:]
        conditions = Conditions(
            positive=positive,
            negative=negative,
            true_cfg_scale=request.true_cfg_scale,
            guidance=guidance,
            image_ids=image_ids(size),
            loras=loras,
            beside=beside,
            negative_mode=request.negative_mode,
            control=control,
        )
        # 4. From noise to latents, step by step, at the level asked for or the nearest that there is.
        level = self._level_for(levels, request, conditions)
        velocity_at = level.velocity(timesteps, conditions, known)
        for number in range(1, request.steps_to_draw + 1):
            step = request.steps_done + number
            velocity = velocity_at(step - 1, latents)
            latents = scheduler.step(velocity, timesteps[step - 1], latents, return_dict=False)[0]
            sigma = scheduler.sigmas[skipped + step]
            latents = source.keep(latents, sigma) if source else latents
            self._pace.step_asked()
            preview = partial(self._preview, model, request, size, latents, velocity, sigma)
            yield StepDone(number, request.steps_to_draw, preview)
        # 5. Latents to pixels, of the size asked for. A draft shows where it is going, and keeps where it is.
        kept = latents_writer(latents, known, request, self._info)
        latents = predict_clean(latents, velocity, sigma) if request.stop_after else latents
        pixels = yield from decode_latents(level.decoder, unpack_latents(latents, size))
        pixels = crop_to(source.paste(pixels) if source else pixels, request.width, request.height)
        # 6. Pixels to a file that says how it was made, while others are drawn.
        parameters = picture_parameters(replace(request, acceleration=level.name), self._info, self._rules)
        cut, vocabulary = cut_warnings(positive, negative), model.vocabulary

        def encode() -> EncodedImage:
            data = encode_image(pixels, request.image_format, parameters)
            data = self._rules.finish(data, request.image_format)
            warnings = (*cut, *vocabulary.warnings("prompt", request.prompt)) if vocabulary else cut
            about = request.image_format, request.width, request.height, warnings, level.name
            return EncodedImage(data, *about, kept())

        return encode

    @staticmethod
    def _level_for(levels: Levels, request: GenerationRequest, conditions: Conditions) -> Level:
        loras = conditions.loras
        return levels.level_for(
            request.acceleration,
            request.negative_mode if request.has_negative else None,
            has_loras=loras is not None and loras.changes(Tower.TRANSFORMER),
            has_control=conditions.control is not None,
        )

    def _active_loras(self, model: LoadedModel, request: GenerationRequest) -> ActiveLoras | None:
        """What the request's LoRAs change; None where they change nothing."""
        if not request.loras:
            return None
        clip, t5 = model.text.encoders
        towers = {Tower.TRANSFORMER: model.transformer, Tower.CLIP: clip, Tower.T5: t5}
        loras = self._loras.active(request.loras, towers, model.device, model.dtype)
        return loras if loras.changes(*Tower) else None

    def _read_prompts(
        self, model: LoadedModel, request: GenerationRequest, sources: Mapping[str, bytes], loras: ActiveLoras | None
    ) -> Generator[None, None, tuple[PromptEmbeds, PromptEmbeds | None]]:
        positive, negative = model.text.encode(request.prompt, self._spec.max_text_tokens, loras), None
        if request.has_negative:
            negative = model.text.encode(request.negative_prompt, self._spec.max_text_tokens, loras)
        yield None
        if request.image_prompt is None:
            return positive, negative
        if model.pictures is None:
            # The gateway has been told of a Redux, and this worker has not.
            raise CheckpointError("this worker reads no image_prompt: it was started without REDUX_MODEL")
        sha256 = request.image_prompt.sha256
        picture = model.pictures.read(sha256, sources[sha256])
        yield None
        # Beside both prompts: it is pushed neither to nor fro.
        scale = request.image_prompt_scale
        return with_picture(positive, picture, scale), negative and with_picture(negative, picture, scale)

    @staticmethod
    def _preview(
        model: LoadedModel,
        request: GenerationRequest,
        size: RenderSize,
        latents: torch.Tensor,
        velocity: torch.Tensor,
        sigma: torch.Tensor,
    ) -> bytes:
        clean = unpack_latents(predict_clean(latents, velocity, sigma), size)
        return model.previewer.encode(clean, request.width, request.height)

    def time_step(self) -> float | None:
        """See `Engine.time_step`."""
        if self._device.type != "cuda" or self._is_released:
            return None
        return time_step(self.generate(CALIBRATION), partial(torch.cuda.synchronize, self._device))

    def release(self, idle_s: float = 0) -> None:
        """See `Engine.release`."""
        if self._model is None or time.monotonic() - self._idle_since_s < idle_s:
            return
        if self._drawing and idle_s:
            return
        self._is_released = True
        if not self._drawing:
            _LOG.info("%s is unloaded until the next picture", self._source.name)
            self._free()

    def close(self) -> None:
        """See `Engine.close`."""
        if self._model is not None:
            self._free()

    @property
    def _mode(self) -> str:
        return str(self._residence.plan.placement.mode) if self._residence else "no"

    def _be_thriftier(self) -> bool:
        """Keep less of the model on the device, until it is loaded anew; False where no thriftier way is left."""
        model, residence = self._model, self._residence
        if residence is None or model is None:
            return False
        try:
            with self._with_room_for("the model, moved halfway"):
                if not residence.be_thriftier(model, self._device):
                    return False
                if can_join(model.transformer, self._device):
                    self._info = replace(self._info, memory=str(residence.plan))
                else:
                    # Levels hold the weights that had no room, where they lay.
                    self._levels = None
                    self._offer_levels(model, residence.plan)
        except Exception:
            # No picture is drawn with half of it: the next one loads it anew.
            self._is_released = True
            self._free()
            raise
        self._collect()
        return True

    @contextmanager
    def _with_room_for(self, what: str) -> Iterator[None]:
        try:
            yield
        except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            raise OutOfMemory(f"{self._device} has too little memory left for {what}") from error

    def _offer_levels(self, model: LoadedModel, plan: MemoryPlan) -> None:
        self._levels = make_levels(model.transformer, model.vae, self._device, self._times_s)
        parts = {**fingerprint_parts(self._device, model.dtype), **self._levels.parts, **self._rules.parts}
        self._info = replace(self._info, fingerprint=fingerprint_of(parts), memory=str(plan))

    def _free(self) -> None:
        self._model = self._residence = self._levels = None
        self._info = replace(self._info, memory="unloaded: the next picture loads it again")
        self._loras.clear()
        self._collect()

    def _collect(self) -> None:
        # Modules refer to each other in circles, which only the collector takes apart.
        gc.collect()
        if self._device.type == "cuda":
            torch.cuda.empty_cache()
        give_back_freed_memory()

    def _loaded(self) -> tuple[LoadedModel, Levels]:
        if self._model is None or self._levels is None:
            raise RuntimeError("generate() before load() or after close()")
        return self._model, self._levels

    @staticmethod
    def _guidance(request: GenerationRequest, model: LoadedModel) -> torch.Tensor | None:
        """The distilled guidance, (1,), float32; None where the transformer has no such input."""
        if not model.has_guidance:
            return None
        return torch.full([1], request.guidance, dtype=torch.float32, device=model.device)
