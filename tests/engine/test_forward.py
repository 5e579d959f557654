"""The one forward pass of all levels: joined weights, both orders of pairs, conditioning in float32."""

import copy

import pytest
import torch

from flux_endpoint.core.catalog import ModelFamily
from flux_endpoint.engine.blocks import Heads, sdpa
from flux_endpoint.engine.denoise import Conditions, exact_velocity
from flux_endpoint.engine.engine import FluxEngine
from flux_endpoint.engine.forward import Build, FusedTransformer
from flux_endpoint.engine.joined import can_join, join_weights, joined
from flux_endpoint.engine.latents import RenderSize, image_ids
from flux_endpoint.engine.linear import Float32Linear, Linear
from flux_endpoint.engine.text import PromptEmbeds

CPU = torch.device("cpu")
TIMESTEPS = torch.tensor([1000.0, 640.0, 20.0])


def transformer_of(engine: FluxEngine, dtype: torch.dtype = torch.float32) -> torch.nn.Module:
    # Not its own `to`, which warns of layers that are to stay in float32: there are none.
    return torch.nn.Module.to(copy.deepcopy(engine._loaded()[0].transformer), dtype)


def noise_for(transformer: torch.nn.Module) -> tuple[torch.Tensor, PromptEmbeds, Conditions]:
    config, random = transformer.config, torch.Generator().manual_seed(5)
    ids = image_ids(RenderSize(0, 0, 14, 8))

    def numbers(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=random).to(transformer.dtype)

    prompt = PromptEmbeds(numbers(1, 20, config.joint_attention_dim), numbers(1, config.pooled_projection_dim), 20, 20)
    guidance = torch.full([1], 7.5) if config.guidance_embeds else None
    return numbers(1, len(ids), config.in_channels), prompt, Conditions(prompt, None, 1.0, guidance, ids)


@torch.inference_mode()
def passes(transformer: torch.nn.Module, build: Build | None) -> torch.Tensor:
    """The velocities of three steps; without a build as diffusers computes them."""
    latents, prompt, conditions = noise_for(transformer)
    if build is None:
        exact = exact_velocity(transformer, TIMESTEPS, prompt, conditions)
        return torch.stack([exact(step, latents) for step in range(3)]).float()
    fused = FusedTransformer(transformer, build)
    plan = fused.plan(TIMESTEPS, prompt, conditions)
    return torch.stack([fused.velocity(plan, step, latents) for step in range(3)]).float()


def distance(one: torch.Tensor, other: torch.Tensor) -> float:
    return float((one - other).norm() / other.norm())


@pytest.mark.parametrize("family", [ModelFamily.DEV, ModelFamily.SCHNELL])
def test_the_pass_in_place_is_the_exact_one(engines: dict[ModelFamily, FluxEngine], family: ModelFamily) -> None:
    transformer = transformer_of(engines[family])
    expected = passes(transformer, None)
    join_weights(transformer)
    assert distance(passes(transformer, Build(torch.float32, is_in_place=True)), expected) < 1e-5


def test_joining_moves_weights_and_changes_nothing(engines: dict[ModelFamily, FluxEngine]) -> None:
    transformer = transformer_of(engines[ModelFamily.DEV])
    before = {name: tensor.clone() for name, tensor in transformer.state_dict().items()}
    exact = passes(transformer, None)
    join_weights(transformer)
    places = {name: tensor.data_ptr() for name, tensor in transformer.state_dict().items()}
    assert all(torch.equal(tensor, before[name]) for name, tensor in transformer.state_dict().items())
    assert torch.equal(passes(transformer, None), exact)
    join_weights(transformer)
    assert places == {name: tensor.data_ptr() for name, tensor in transformer.state_dict().items()}


def test_a_pass_in_place_copies_no_weight(engines: dict[ModelFamily, FluxEngine]) -> None:
    transformer = transformer_of(engines[ModelFamily.DEV])
    join_weights(transformer)
    storages = {parameter.untyped_storage().data_ptr() for parameter in transformer.parameters()}
    # Packing is a copy, and the CPU's alone.
    build = Build(torch.float32, lambda *layer: Linear(*layer, torch.float32, is_packed=False), is_in_place=True)
    fused = FusedTransformer(transformer, build)
    for block in (*fused._double, *fused._single):
        for name, tensor in block.named_buffers():
            assert "norm" in name or tensor.untyped_storage().data_ptr() in storages, name


def test_tensors_lie_together_or_are_copied() -> None:
    whole = torch.arange(12.0).view(6, 2)
    parts = [whole[:2], whole[2:5], whole[5:]]
    assert joined(parts).data_ptr() == whole.data_ptr()
    assert torch.equal(joined(parts), whole)
    for apart in ([whole[:2], whole[3:]], [whole[2:], whole[:2]], [whole[:2], whole[2:].clone()]):
        assert torch.equal(joined(apart), torch.cat(apart))
        assert joined(apart).data_ptr() != whole.data_ptr()


def test_weights_elsewhere_or_packed_are_not_joined(engines: dict[ModelFamily, FluxEngine]) -> None:
    transformer = transformer_of(engines[ModelFamily.DEV])
    assert can_join(transformer, CPU)
    assert not can_join(transformer, torch.device("cuda"))
    transformer.transformer_blocks[0].attn.to_q.to("meta")
    assert not can_join(transformer, CPU)


def test_pairs_side_by_side_turn_as_those_half_a_head_apart() -> None:
    random = torch.Generator().manual_seed(0)
    norms = [torch.randn(8, generator=random) for _ in range(2)]
    rotation = tuple(torch.randn(5, 4, generator=random) for _ in range(2))
    beside, apart = (Heads(2, 8, are_apart, torch.float32, sdpa) for are_apart in (False, True))
    order = apart.order()
    expected = beside.tables(*norms, rotation)
    tables = apart.tables(*(norm[order] for norm in norms), rotation)
    # The same numbers at other places.
    assert all(torch.equal(one, other[..., order]) for one, other in zip(tables, expected, strict=True))
    qkv = torch.randn(5, 48, generator=random)
    moved = qkv.view(5, 3, 2, 8).clone()
    moved[:, :2] = moved[:, :2, :, order]
    assert torch.allclose(apart.attended(moved.view(5, 48), tables), beside.attended(qkv, expected), atol=1e-5)


def test_in_bfloat16_the_pass_is_nearer_to_float32_than_diffusers_is(engines: dict[ModelFamily, FluxEngine]) -> None:
    transformer = transformer_of(engines[ModelFamily.DEV], torch.bfloat16)
    join_weights(transformer)
    truth = passes(transformer, Build(torch.float32, Float32Linear, is_in_place=True))
    eager = distance(passes(transformer, None), truth)
    fused = distance(passes(transformer, Build(torch.bfloat16, table_dtype=torch.float32, is_in_place=True)), truth)
    assert 0 < fused < eager / 2 < 5e-2
