"""LoRAs at the speed levels of a CPU: in the weights of a copy, as near to exact as pictures without them."""

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from flux_endpoint.core.acceleration import Acceleration
from flux_endpoint.core.catalog import FLUX_DEV, ModelFamily
from flux_endpoint.core.generation import GenerationRequest, parse_input
from flux_endpoint.engine.engine import FluxEngine
from flux_endpoint.engine.latents import render_size
from flux_endpoint.engine.level import Level
from flux_endpoint.engine.levels import Levels
from flux_endpoint.engine.lora.active import ActiveLoras
from flux_endpoint.engine.lora.adapter import read_adapter
from flux_endpoint.engine.lora.merged import merged
from flux_endpoint.engine.probe import distance, make_probe
from flux_endpoint.files.lora_names import Tower
from flux_endpoint.files.lora_shelf import shelf_of
from tests.engine import lora_files
from tests.engine.conftest import decibel, draw, drawn_in_turn

NONE, REGULAR, HIGH = Acceleration
SHELF = shelf_of(None, is_embedded=True)


def request_for(level: Acceleration, scale: float | None = 0.8, **changes: object) -> GenerationRequest:
    fields = {"prompt": "a castle on a hill at sunset", "seed": 7, "num_inference_steps": 12, "image_format": "png"}
    loras = {} if scale is None else {"loras": [{"path": "screenprint", "scale": scale}]}
    size = {"width": 256, "height": 256, "acceleration": level.value}
    return parse_input(fields | size | loras | changes, FLUX_DEV, shelf=SHELF)


def picture(engine: FluxEngine, request: GenerationRequest) -> tuple[np.ndarray, Acceleration]:
    image = draw(engine, request)
    return np.asarray(Image.open(io.BytesIO(image.data))).astype(int), image.acceleration


def test_a_picture_with_a_lora_is_as_near_to_exact_as_one_without(demo_engine: FluxEngine) -> None:
    exact, _ = picture(demo_engine, request_for(NONE))
    regular, ran_regular = picture(demo_engine, request_for(REGULAR))
    high, ran_high = picture(demo_engine, request_for(HIGH))
    plain, _ = picture(demo_engine, request_for(REGULAR, None))
    assert (ran_regular, ran_high) == (REGULAR, HIGH)
    assert np.abs(regular - exact).max() <= 1
    assert decibel(high, exact) >= 40
    assert decibel(plain, exact) < 20


def test_a_negative_prompt_beside_a_lora_is_never_drawn_in_bfloat16(demo_engine: FluxEngine) -> None:
    changes = {"negative_prompt": "night", "num_inference_steps": 6}
    exact, _ = picture(demo_engine, request_for(NONE, **changes))
    high, ran = picture(demo_engine, request_for(HIGH, **changes))
    assert ran is REGULAR
    assert np.abs(high - exact).max() <= 1


@pytest.mark.parametrize("level", [REGULAR, HIGH])
def test_pictures_with_other_loras_are_drawn_in_turn_as_if_alone(demo_engine: FluxEngine, level: Acceleration) -> None:
    requests = [request_for(level, scale, num_inference_steps=4) for scale in (0.8, None, -0.5, 0.8)]
    alone = [draw(demo_engine, request).data for request in requests]
    assert (len(set(alone)), alone[0]) == (3, alone[3])
    assert drawn_in_turn(map(demo_engine.generate, requests)) == alone


def test_a_scale_of_0_draws_what_is_drawn_without(demo_engine: FluxEngine) -> None:
    without, _ = picture(demo_engine, request_for(REGULAR, None, num_inference_steps=2))
    assert np.array_equal(picture(demo_engine, request_for(REGULAR, 0, num_inference_steps=2))[0], without)


def test_a_level_that_takes_no_loras_is_drawn_exactly() -> None:
    exact, fast, faster = (Level(name, lambda *_: None, lambda *_: None) for name in Acceleration)
    own = object()
    levels = Levels({NONE: exact, REGULAR: replace(fast, takes_loras=True), HIGH: faster}, {}, own)
    asked = {one: levels.level_for(one, has_loras=True) for one in Acceleration}
    assert (asked[NONE].passes, asked[NONE].name) == (own, NONE)
    assert (asked[REGULAR].name, asked[HIGH].name) == (REGULAR, REGULAR)
    assert Levels({NONE: exact, HIGH: faster}, {}, own).level_for(HIGH, has_loras=True).passes is own


def lora(sizes: dict[str, tuple[int, int]]) -> dict[str, torch.Tensor]:
    return lora_files.diffusers(lora_files.random_changes(sizes))


def loha(sizes: dict[str, tuple[int, int]]) -> dict[str, torch.Tensor]:
    return lora_files.loha(originals(sizes))[0]


def lokr(sizes: dict[str, tuple[int, int]]) -> dict[str, torch.Tensor]:
    # Blocks of 16 rows do not end where the rows of every layer do.
    fitting = {name: size for name, size in originals(sizes).items() if size[0] % 16 == 0 and size[1] % 4 == 0}
    return lora_files.lokr(fitting, is_factored=True, block=16)[0]


def originals(sizes: dict[str, tuple[int, int]]) -> dict[str, tuple[int, int]]:
    stacked = lora_files.stacked(lora_files.random_changes(sizes))
    return {name: (len(change.up), change.down.shape[1]) for name, change in stacked.items()}


@pytest.mark.parametrize("form", [lora, loha, lokr])
def test_a_copy_has_the_changes_in_its_weights_and_the_rest_in_common(engines, tmp_path: Path, form) -> None:
    transformer = engines[ModelFamily.DEV]._loaded()[0].transformer
    before = {name: tensor.clone() for name, tensor in transformer.named_parameters()}
    file = lora_files.save(form(lora_files.linear_sizes(transformer)), tmp_path / "x.safetensors")
    adapter = read_adapter(file, {Tower.TRANSFORMER: transformer}, torch.device("cpu"), torch.float32)
    loras = ActiveLoras([(adapter, 0.5)])
    found = dict(merged(transformer, loras).named_parameters())
    changed = {f"{name}.weight": changes for name, changes in loras.of(Tower.TRANSFORMER)}
    assert changed
    for name, original in transformer.named_parameters():
        assert torch.equal(original, before[name])
        if name not in changed:
            assert found[name] is original
            continue
        rows, columns = original.shape
        added = torch.zeros(columns, rows)
        for change, scale in changed[name]:
            added = change.plus(added, torch.eye(columns), scale)
        torch.testing.assert_close(found[name] - original, added.t(), rtol=1e-3, atol=1e-4)


def test_a_list_of_loras_changes_a_fast_level_as_the_exact_one(demo_engine: FluxEngine, tmp_path: Path) -> None:
    model, levels = demo_engine._loaded()
    sizes = {name: size for name, size in lora_files.linear_sizes(model.transformer).items() if "norm" not in name}
    adapters = []
    for seed in range(3):
        changes = lora_files.random_changes(sizes, seed)
        small = {name: replace(change, up=change.up * 0.05) for name, change in changes.items()}
        file = lora_files.save(lora_files.diffusers(small), tmp_path / f"{seed}.safetensors")
        towers = {Tower.TRANSFORMER: model.transformer}
        adapters.append((read_adapter(file, towers, torch.device("cpu"), torch.float32), 0.5 + seed))
    loras = ActiveLoras(adapters)
    probe = make_probe(model.transformer, render_size(128, 128, model.vae_scale_factor), 64)
    probe = replace(probe, conditions=replace(probe.conditions, loras=loras))
    plain = replace(probe, conditions=replace(probe.conditions, loras=None))
    exact = probe.ask(probe.velocity(levels.level_for(NONE, has_loras=True).passes))
    fast = probe.ask(probe.velocity(levels.level_for(REGULAR, has_loras=True).passes))
    without = plain.ask(plain.velocity(levels.level_for(REGULAR).passes))
    assert distance(fast, exact) < 1e-4
    assert distance(without, exact) > 0.05
