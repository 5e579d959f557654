"""A negative prompt inside the attention: what it computes, and that it leaves nothing behind."""

import dataclasses
import math

import pytest
import torch
from diffusers.models.transformers.transformer_flux import FluxAttnProcessor

from flux_endpoint.core.acceleration import Acceleration
from flux_endpoint.core.catalog import ModelFamily
from flux_endpoint.core.marks import parameters_in
from flux_endpoint.core.negative_mode import NegativeMode
from flux_endpoint.engine.denoise import Conditions, exact_velocity
from flux_endpoint.engine.engine import FluxEngine
from flux_endpoint.engine.latents import RenderSize, image_ids
from flux_endpoint.engine.nag import Nag, NagProcessor, attending, nag_velocity
from flux_endpoint.engine.protocol import finish
from flux_endpoint.engine.text import PromptEmbeds
from tests.engine.conftest import draw, make_request

TIMESTEPS = torch.tensor([1000.0, 640.0])
NAG = {"negative_prompt": "night", "negative_mode": NegativeMode.NAG, "true_cfg_scale": 5.0}


def test_what_is_found_is_pushed_and_kept_short() -> None:
    positive, negative = torch.tensor([[[3.0, -1.0]]]), torch.tensor([[[1.0, 1.0]]])
    # 2 * (3, -1) - (1, 1) is (5, -3), twice as long as (3, -1).
    assert Nag(2, tau=9, alpha=1).pushed(positive, negative).tolist() == [[[5, -3]]]
    assert Nag(2, tau=1.5, alpha=1).pushed(positive, negative).flatten().tolist() == pytest.approx([3.75, -2.25])
    assert Nag(2, tau=9, alpha=0.25).pushed(positive, negative).tolist() == [[[3.5, -1.5]]]
    assert Nag(1).pushed(positive, negative).tolist() == positive.tolist()
    nothing = torch.zeros(1, 2, 4)
    assert Nag(5).pushed(nothing, nothing).tolist() == nothing.tolist()


def numbers_for(engine: FluxEngine) -> tuple[torch.Tensor, Conditions]:
    config, random = engine._loaded()[0].transformer.config, torch.Generator().manual_seed(5)
    ids = image_ids(RenderSize(0, 0, 14, 8))

    def prompt() -> PromptEmbeds:
        sequence = torch.randn(1, 20, config.joint_attention_dim, generator=random)
        return PromptEmbeds(sequence, torch.randn(1, config.pooled_projection_dim, generator=random), 20, 20)

    guidance = torch.full([1], 3.5) if config.guidance_embeds else None
    latents = torch.randn(1, len(ids), config.in_channels, generator=random)
    return latents, Conditions(prompt(), prompt(), 5.0, guidance, ids, negative_mode=NegativeMode.NAG)


@pytest.mark.parametrize("family", [ModelFamily.DEV, ModelFamily.SCHNELL])
def test_at_its_ends_it_is_the_pass_of_one_prompt_alone(
    engines: dict[ModelFamily, FluxEngine], family: ModelFamily
) -> None:
    transformer = engines[family]._loaded()[0].transformer
    latents, conditions = numbers_for(engines[family])
    positive, negative = conditions.positive, conditions.negative
    assert negative is not None
    alone = exact_velocity(transformer, TIMESTEPS, positive, conditions)(1, latents)
    # Not pushed, and pushed away from itself.
    for same in (
        dataclasses.replace(conditions, true_cfg_scale=1.0),
        dataclasses.replace(conditions, negative=positive),
    ):
        torch.testing.assert_close(nag_velocity(transformer, TIMESTEPS, same)(1, latents), alone, atol=1e-4, rtol=1e-4)
    pushed = nag_velocity(transformer, TIMESTEPS, conditions)(1, latents)
    assert float((pushed - alone).norm() / alone.norm()) > 1e-3
    # All the way to what is found with the negative prompt, modulated by the prompt.
    both = PromptEmbeds(torch.cat([positive.sequence, negative.sequence], 1), positive.pooled, 20, 40)
    with attending(transformer, NagProcessor(Nag(0, tau=math.inf, alpha=1), 20)):
        found = exact_velocity(transformer, TIMESTEPS, both, conditions)(1, latents)
    other = dataclasses.replace(negative, pooled=positive.pooled)
    expected = exact_velocity(transformer, TIMESTEPS, other, conditions)(1, latents)
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("family", [ModelFamily.DEV, ModelFamily.SCHNELL])
def test_pictures_drawn_in_turns_with_it_keep_their_bytes(
    engines: dict[ModelFamily, FluxEngine], family: ModelFamily
) -> None:
    engine = engines[family]
    requests = [make_request(seed=1), make_request(seed=2, **NAG), make_request(seed=3, **NAG)]
    requests += [make_request(seed=4, negative_prompt="night")]
    alone = [draw(engine, request).data for request in requests]
    assert len(set(alone)) == 4
    drawings = [engine.generate(request) for request in requests]
    for _ in range(3):
        for drawing in drawings:
            next(drawing)
    stopped = engine.generate(make_request(**NAG))
    next(stopped)
    next(stopped)
    stopped.close()
    assert [finish(drawing).data for drawing in drawings] == alone
    processors = engine._loaded()[0].transformer.attn_processors.values()
    assert {type(processor) for processor in processors} == {FluxAttnProcessor}


def test_levels_that_cannot_draw_it_give_way_to_the_exact_one(demo_engine: FluxEngine) -> None:
    def picture(level: Acceleration) -> tuple[bytes, Acceleration]:
        image = draw(demo_engine, make_request(acceleration=level, width=256, height=256, **NAG))
        assert parameters_in(image.data)["negative_mode"] == "nag"
        return image.data, image.acceleration

    pictures = [picture(level) for level in Acceleration]
    assert {level for _, level in pictures} == {Acceleration.NONE}
    assert len({data for data, _ in pictures}) == 1
    off = draw(demo_engine, make_request(acceleration=Acceleration.HIGH, **(NAG | {"true_cfg_scale": 1.0})))
    assert off.acceleration is Acceleration.HIGH


def test_files_without_a_negative_prompt_say_nothing_of_it(demo_engine: FluxEngine) -> None:
    assert "negative_mode" not in parameters_in(draw(demo_engine, make_request()).data)
