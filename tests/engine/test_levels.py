"""The speed levels: how far they are from exact, what they leave behind, and what is told of them."""

import functools
import io
from itertools import pairwise

import numpy as np
import pytest
import torch
from PIL import Image

from flux_endpoint.core.acceleration import Acceleration
from flux_endpoint.core.catalog import FLUX_DEV, FLUX_SCHNELL, ModelFamily
from flux_endpoint.core.generation import GenerationRequest
from flux_endpoint.core.marks import parameters_in
from flux_endpoint.core.negative_mode import NegativeMode
from flux_endpoint.engine.blocks import by_products, sdpa
from flux_endpoint.engine.channels_last import ChannelsLastDecoder, can_decode
from flux_endpoint.engine.decode import Decoder, exact_decoder
from flux_endpoint.engine.denoise import Conditions, Remembered, exact_velocity, extrapolated, guided, is_extrapolated
from flux_endpoint.engine.engine import FluxEngine
from flux_endpoint.engine.fake import FakeEngine
from flux_endpoint.engine.forward import Build, FusedTransformer
from flux_endpoint.engine.gpu import attention
from flux_endpoint.engine.latents import draw_noise, image_ids, pack_latents, render_size
from flux_endpoint.engine.levels import make_levels
from flux_endpoint.engine.linear import Linear
from flux_endpoint.engine.protocol import finish
from tests.engine.conftest import SPECS, decibel, draw, make_request, open_engine

NONE, REGULAR, HIGH = Acceleration
PROMPTS = (
    "a calm lake below mountains at sunset",
    "two red boats on a river under a storm",
    "the sea at night, a full moon",
    "four apples on a table",
)


def picture(engine: FluxEngine, request: GenerationRequest) -> tuple[np.ndarray, Acceleration]:
    image = draw(engine, request)
    assert parameters_in(image.data)["acceleration"] == image.acceleration
    return np.asarray(Image.open(io.BytesIO(image.data))).astype(int), image.acceleration


def request_for(number: int, level: Acceleration, **changes: object) -> GenerationRequest:
    size = {"width": 256, "height": 256, "num_inference_steps": 28}
    return make_request(prompt=PROMPTS[number], seed=number, acceleration=level, **(size | changes))


@pytest.mark.parametrize("number", range(len(PROMPTS)))
def test_regular_is_at_most_one_level_off_and_high_looks_the_same(demo_engine: FluxEngine, number: int) -> None:
    exact, _ = picture(demo_engine, request_for(number, NONE))
    regular, ran_regular = picture(demo_engine, request_for(number, REGULAR))
    high, ran_high = picture(demo_engine, request_for(number, HIGH))
    assert (ran_regular, ran_high) == (REGULAR, HIGH)
    assert np.abs(regular - exact).max() <= 1
    assert 40 <= decibel(high, exact) < 80


def test_other_sizes_and_schnell_are_drawn_at_every_level() -> None:
    schnell = open_engine("demo", FLUX_SCHNELL)
    changes = {"width": 384, "height": 256, "num_inference_steps": 4}
    exact, regular, high = (picture(schnell, request_for(0, level, **changes))[0] for level in Acceleration)
    schnell.close()
    assert np.abs(regular - exact).max() <= 1
    assert decibel(high, exact) >= 40


def test_a_negative_prompt_is_never_drawn_in_bfloat16(demo_engine: FluxEngine) -> None:
    changes = {"negative_prompt": "night", "num_inference_steps": 8}
    exact, _ = picture(demo_engine, request_for(0, NONE, **changes))
    high, ran = picture(demo_engine, request_for(0, HIGH, **changes))
    assert ran is REGULAR
    assert np.abs(high - exact).max() <= 1
    # One that does not act changes nothing.
    _, ran = picture(demo_engine, request_for(0, HIGH, negative_prompt="night", true_cfg_scale=1.0))
    assert ran is HIGH


@pytest.mark.parametrize("level", [REGULAR, HIGH])
def test_a_stopped_picture_and_one_between_the_steps_leave_nothing_behind(
    demo_engine: FluxEngine, level: Acceleration
) -> None:
    request = request_for(1, level, num_inference_steps=12)
    alone = draw(demo_engine, request).data
    stopped, disturbed = demo_engine.generate(request_for(2, level)), demo_engine.generate(request)
    for _ in range(9):
        next(stopped)
        next(disturbed)
    stopped.close()
    assert finish(disturbed).data == alone


def test_previews_are_drawn_at_every_level(demo_engine: FluxEngine) -> None:
    for level in Acceleration:
        steps = demo_engine.generate(request_for(0, level, num_inference_steps=9))
        done = next(step for step in steps if step and step.step == 7)
        assert done.preview is not None
        assert Image.open(io.BytesIO(done.preview())).size == (64, 64)


@pytest.mark.parametrize("family", list(SPECS))
@pytest.mark.parametrize("is_packed", [False, True])
def test_the_fused_pass_is_the_exact_one(
    engines: dict[ModelFamily, FluxEngine], family: ModelFamily, is_packed: bool
) -> None:
    model, _ = engines[family]._loaded()
    size = render_size(112, 64, model.vae_scale_factor)
    latents = pack_latents(draw_noise(3, model.latent_channels, size))
    prompt = model.text.encode("a house", 256)
    conditions = Conditions(prompt, None, 1.0, torch.full([1], 7.5) if model.has_guidance else None, image_ids(size))
    timesteps = torch.tensor([1000.0, 640.0, 20.0])
    exact = exact_velocity(model.transformer, timesteps, prompt, conditions)
    fused = FusedTransformer(
        model.transformer,
        Build(torch.float32, lambda weight, bias: Linear(weight, bias, torch.float32, is_packed=is_packed)),
    )
    plan = fused.plan(timesteps, prompt, conditions)
    for step in range(3):
        expected = exact(step, latents)
        assert (fused.velocity(plan, step, latents) - expected).norm() < 1e-5 * expected.norm()


def pixels_of(decoder: Decoder, latents: torch.Tensor) -> torch.Tensor:
    slices = decoder(latents)
    while True:
        try:
            next(slices)
        except StopIteration as end:
            return end.value


def test_the_decoder_is_the_exact_one(demo_engine: FluxEngine) -> None:
    vae = demo_engine._loaded()[0].vae
    latents = torch.randn(1, 32, 4, 6, generator=torch.Generator().manual_seed(0))
    expected = pixels_of(exact_decoder(vae), latents)
    pixels = pixels_of(ChannelsLastDecoder(vae, torch.float32), latents)
    assert pixels.shape == expected.shape == (1, 3, 128, 192)
    assert (pixels - expected).abs().max() < 1e-4
    assert can_decode(vae)


def computed_of(steps: int) -> list[int]:
    return [step for step in range(steps) if not is_extrapolated(step, steps)]


def test_the_first_six_velocities_are_computed_and_a_quarter_more() -> None:
    assert computed_of(28) == [0, 1, 2, 3, 4, 5, 8, 11, 14, 18, 21, 24, 27]
    assert computed_of(10) == [0, 1, 2, 3, 4, 5, 6, 8, 9]
    for steps in range(1, 51):
        computed = computed_of(steps)
        assert computed[:6] == list(range(min(steps, 6)))
        assert computed[-1] == steps - 1
        assert max((after - before for before, after in pairwise(computed)), default=1) <= 4


def test_extrapolation_follows_a_straight_line_and_saves_passes() -> None:
    timesteps = torch.linspace(1000, 10, 12) ** 2
    asked: list[int] = []

    def straight(step: int, latents: torch.Tensor) -> torch.Tensor:
        asked.append(step)
        return latents + 3 * timesteps[step]

    velocity = extrapolated(straight, timesteps, [])
    latents = torch.zeros(1, 2, 3)
    for step in range(12):
        assert torch.allclose(velocity(step, latents), latents + 3 * timesteps[step], rtol=1e-4, atol=50)
    assert asked == computed_of(12)


def test_what_the_line_was_off_is_made_up_for_in_the_next_step_that_is_computed() -> None:
    sigmas = torch.linspace(1, 0, 21) ** 0.7
    timesteps, lengths = sigmas[:-1] * 1000, sigmas.diff()
    curve = 3 - 2 * sigmas[:-1] + 5 * sigmas[:-1] ** 2
    known: Remembered = []
    velocity = extrapolated(lambda step, latents: curve[step] + latents, timesteps, known)
    way = torch.zeros(())
    for step in range(20):
        if step == 10:
            # Another goes on with what this one remembers, in the midst of steps that are left out.
            assert [at for at, _ in known] == [5, 8]
            velocity = extrapolated(lambda step, latents: curve[step] + latents, timesteps, list(known))
        way = way + velocity(step, torch.zeros(())) * lengths[step]
        is_at_one = not is_extrapolated(step, 20)
        assert torch.isclose(way, (curve * lengths)[: step + 1].sum(), atol=1e-4) == is_at_one


def test_guidance_pushes_away_from_the_negative_prompt() -> None:
    velocity = guided(lambda _, latents: latents + 2, lambda _, latents: latents + 1, 3.0)
    assert torch.equal(velocity(0, torch.zeros(1)), torch.tensor([4.0]))


def test_a_level_that_is_wrong_on_this_machine_is_not_offered(
    demo_engine: FluxEngine, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    model, _ = demo_engine._loaded()
    gelu = Linear.gelu
    monkeypatch.setattr(Linear, "gelu", lambda self, rows: gelu(self, rows) * 1.01)
    levels = make_levels(model.transformer, model.vae, model.device)
    # A hundredth is within what bfloat16 may be off, and far beyond float32.
    assert levels.level_for(REGULAR).name is NONE
    assert levels.level_for(HIGH, NegativeMode.CFG).name is NONE
    assert "Acceleration regular is not offered: a pass in float32" in caplog.text


def test_a_model_whose_weights_are_not_on_its_gpu_is_offered_none_alone(demo_engine: FluxEngine) -> None:
    model, _ = demo_engine._loaded()
    levels = make_levels(model.transformer, model.vae, torch.device("cuda"))
    assert [levels.level_for(asked).name for asked in Acceleration] == [NONE] * 3
    assert levels.parts == {}


def test_an_engine_without_a_model_says_none() -> None:
    assert draw(FakeEngine(FLUX_DEV), make_request(acceleration=HIGH, num_inference_steps=1)).acceleration is NONE


def test_packed_and_plain_layers_agree() -> None:
    random = torch.Generator().manual_seed(0)
    weight, bias, rows, more = (torch.randn(*shape, generator=random) for shape in ((48, 32), (48,), (7, 32), (7, 48)))
    packed, plain = (Linear(weight, bias, torch.float32, is_packed=is_packed) for is_packed in (True, False))
    for one, other in ((packed(rows), plain(rows)), (packed.gelu(rows), plain.gelu(rows))):
        assert torch.allclose(one, other, atol=1e-4)
    assert torch.allclose(packed.plus(rows, more), plain.plus(rows, more), atol=1e-4)


def test_attention_by_products_is_torchs(monkeypatch: pytest.MonkeyPatch) -> None:
    random = torch.Generator().manual_seed(0)
    query, key, value = (torch.randn(1, 3, 20, 8, generator=random) for _ in range(3))
    assert torch.allclose(by_products(query, key, value), sdpa(query, key, value), atol=1e-6)
    # So many that their scores would take much memory.
    monkeypatch.setattr("flux_endpoint.engine.blocks._MOST_TOKENS", 19)
    assert torch.equal(by_products(query, key, value), sdpa(query, key, value))


def test_what_is_clearly_faster_attends_and_is_told_in_the_fingerprint(
    demo_engine: FluxEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, _ = demo_engine._loaded()
    for products_s, name in ((0.7, "products"), (0.95, "torch")):
        # As in a process of its own: what this one has chosen stays what later engines have.
        monkeypatch.setattr(attention, "_fastest", functools.cache(attention._fastest.__wrapped__))
        for again_s in (products_s, 1.5 - products_s):
            # What is loaded again draws the same bytes, whatever is the faster one this time.
            times = iter((1.0, again_s) * 2)
            monkeypatch.setattr(attention, "seconds_of", lambda *_, times=times: next(times))
            levels = make_levels(model.transformer, model.vae, model.device)
            assert levels.parts == {"attention": f"regular {name} high {name}"}
