"""The networks behind the embedded model: packing, schedules, the folded student, the checker's rules for scores."""

import copy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers.pipelines.flux.pipeline_flux import calculate_shift

import flux_endpoint
from training.ae.autoencoder import FLATNESS, LATENT_CHANNELS, build_autoencoder, encode, flatten_spectrum, fold_mixing
from training.checker.checker import Verdict
from training.checker.rules import find_shapes
from training.config import load_config
from training.encode.pictures import latent_mixing
from training.evaluate.scoring import METRICS, held_out_captions, markdown_table, score
from training.export.folder import export_model
from training.flow.train import draw_sigma, lowest_plan_sigma, masked_mean, token_weight
from training.flow.transformer import build_scheduler, build_transformer, pack, position_ids, predict, schedule, unpack
from training.precision import compute_dtype
from training.start import copy_text_encoders, start_weights
from training.student.train import STEPS, without_guidance_input
from training.text.encoders import TextEncoders
from training.world.captions import Caption
from training.world.render import render
from training.world.scenes import VOCABULARY, sample_scene

CONFIGS = Path(__file__).parents[2] / "training"
MODEL = Path(flux_endpoint.__file__).parent / "models" / "demo"


def test_packing_is_undone_by_unpacking() -> None:
    latents = torch.randn(2, 32, 8, 12)
    assert torch.equal(unpack(pack(latents), 384, 256), latents)


def test_latents_spectrum_is_flattened_and_their_directions_stay() -> None:
    torch.manual_seed(0)
    samples = torch.randn(1000, LATENT_CHANNELS) @ torch.randn(LATENT_CHANNELS, LATENT_CHANNELS)
    variances, directions = torch.linalg.eigh(samples.T.cov())
    mixed = samples @ flatten_spectrum(samples.T.cov())
    assert torch.allclose(mixed.var(dim=0).mean(), torch.ones(()), atol=1e-3)
    flat = (mixed @ directions).var(dim=0)
    assert torch.allclose(flat / flat[-1], (variances / variances[-1]) ** FLATNESS, rtol=1e-2)


def test_latents_of_an_exported_autoencoder_are_not_flattened_again(tmp_path: Path) -> None:
    config = load_config(CONFIGS / "smoke.toml", work_dir=tmp_path)
    vae, device = build_autoencoder(), torch.device("cpu")
    kept = latent_mixing(replace(config, start_from=MODEL, work_dir=tmp_path / "kept"), vae, device)
    assert torch.equal(kept, torch.eye(LATENT_CHANNELS))
    assert not torch.allclose(latent_mixing(config, vae, device), kept, atol=0.1)


def test_mixing_latents_does_not_change_pictures() -> None:
    torch.manual_seed(0)
    plain, pixels = build_autoencoder().eval(), torch.rand(1, 3, 128, 128) * 2 - 1
    folded, mixing = copy.deepcopy(plain), flatten_spectrum(torch.rand(LATENT_CHANNELS, 200).cov())
    fold_mixing(folded, mixing)
    with torch.no_grad():
        latents = encode(folded, pixels)
        assert torch.allclose(latents, torch.einsum("om,nmhw->nohw", mixing, encode(plain, pixels)), atol=1e-4)
        assert torch.allclose(folded.decoder(latents), plain.decoder(encode(plain, pixels)), atol=1e-4)


@pytest.mark.parametrize(
    ("device", "capabilities", "dtype"),
    [
        ("cpu", {"avx2": True, "avx512_bf16": False, "amx_bf16": False}, torch.float32),
        ("cpu", {"avx2": True, "avx512_bf16": True, "amx_bf16": False}, torch.bfloat16),
        ("cpu", {"neon": True, "bf16": True}, torch.bfloat16),
        ("cuda", {}, torch.bfloat16),
    ],
)
def test_training_is_in_bfloat16_only_where_the_machine_multiplies_it(
    monkeypatch: pytest.MonkeyPatch, device: str, capabilities: dict[str, bool], dtype: torch.dtype
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)
    assert compute_dtype(torch.device(device)) == dtype


def test_what_shows_a_thing_counts_more() -> None:
    weights = token_weight(torch.tensor([[0.0, 0.125, 0.25, 1.0]]), subject_weight=3.0)
    assert torch.equal(weights, torch.tensor([[1.0, 2.5, 4.0, 4.0]]))


def test_errors_are_told_over_what_is_shown() -> None:
    errors, shown = torch.tensor([[1.0, 2.0], [4.0, 9.0]]), torch.tensor([[0.0, 1.0], [1.0, 0.0]])
    assert masked_mean(errors, shown) == 3.0
    assert masked_mean(errors, torch.zeros(2, 2)) == 0.0


@pytest.mark.parametrize("tokens", [16, 64, 256])
def test_outlines_and_layouts_are_trained_at_every_size(tokens: int) -> None:
    torch.manual_seed(0)

    def share(detail_share: float, plan_share: float, low: float, high: float) -> float:
        levels = draw_sigma(4000, tokens, detail_share, plan_share, torch.device("cpu"))
        assert levels.min() > 0 and levels.max() <= 1
        return float(((levels >= low) & (levels < high)).float().mean())

    assert share(0.0, 0.0, 0.95, 1.01) < 0.1
    assert share(0.0, 1.0, lowest_plan_sigma(tokens), 1.01) == 1 and share(0.0, 1.0, 0.95, 1.01) > 0.1
    assert share(0.5, 0.0, 0.0, 0.4) > 0.3
    assert share(0.5, 0.5, 0.6, 0.65) < 0.01


@pytest.mark.parametrize("tokens", [16, 64, 240, 256])
def test_the_student_is_taught_at_the_noise_levels_that_the_pipeline_uses(tokens: int) -> None:
    scheduler = build_scheduler()
    config = scheduler.config
    shift = calculate_shift(
        tokens, config.base_image_seq_len, config.max_image_seq_len, config.base_shift, config.max_shift
    )
    scheduler.set_timesteps(sigmas=list(np.linspace(1.0, 1 / STEPS, STEPS)), mu=shift)
    assert np.allclose(scheduler.sigmas.numpy(), schedule(tokens, STEPS), atol=1e-5)


def test_the_student_starts_as_the_teacher_at_one_guidance() -> None:
    torch.manual_seed(0)
    teacher = build_transformer()
    for parameter in teacher.parameters():
        if parameter.requires_grad:
            torch.nn.init.normal_(parameter, std=0.05)
    student = without_guidance_input(teacher, 7.5).float()
    teacher.float()  # The norms are bfloat16 for speed only.
    inputs = torch.randn(1, 16, 128), torch.tensor([0.6])
    rest = torch.randn(1, 128), torch.randn(1, 5, 128), position_ids(256, 256, torch.device("cpu"))
    with torch.no_grad():
        expected = predict(teacher, *inputs, torch.tensor([7.5]), *rest)
        got = predict(student, *inputs, None, *rest)
    assert torch.allclose(got, expected, atol=1e-3)


@pytest.mark.parametrize("name", ["demo.toml", "smoke.toml"])
def test_configurations_are_complete(name: str) -> None:
    config = load_config(CONFIGS / name)
    assert sum(bucket.share for bucket in config.flow.buckets) == pytest.approx(1.0)
    assert all(side % 64 == 0 for bucket in config.flow.buckets for size in bucket.sizes for side in size)


def test_a_true_render_scores_full_marks_and_an_empty_picture_none() -> None:
    scene = next(s for s in map(sample_scene, range(999)) if s.kind == "shape" and s.relation == "left")
    named = {name: number for name, number in scene.labels().items() if number >= 0}
    asked = [(scene, Caption("", named))]
    hits = {}
    for label, picture in (("true", render(scene, 256, 256)), ("empty", np.full((256, 256, 3), 250, np.uint8))):
        scores = score(asked, [Verdict({}, True, find_shapes(picture))])
        hits[label] = {name: hit for name, (hit, total) in scores.items() if total}
    assert hits["true"] == dict.fromkeys(("shape", "count", "colour", "place"), 1)
    assert hits["empty"] == dict.fromkeys(("shape", "count", "colour", "place"), 0)


def test_scenes_are_scored_by_what_their_captions_name() -> None:
    scene = next(s for s in map(sample_scene, range(999)) if s.kind == "scene" and s.thing == "none")
    seen = {name: getattr(scene, name) for name in VOCABULARY}
    asked = [(scene, Caption("", {"time": 0, "ground": 0}))]
    right = score(asked, [Verdict(seen, True)])
    wrong = score(asked, [Verdict(seen | {"ground": "none", "thing": "cat"}, False)])
    assert {name: right[name] for name in ("time", "ground", "unasked", "horizon")} == dict.fromkeys(
        ("time", "ground", "unasked", "horizon"), (1, 1)
    )
    assert (wrong["ground"], wrong["unasked"], wrong["horizon"]) == ((0, 1), (0, 1), (0, 1))
    assert right["asked"] == (0, 0)


def test_held_out_captions_are_fixed_and_a_fifth_are_shapes() -> None:
    first, again = held_out_captions(20), held_out_captions(20)
    assert [caption.text for _, caption in first] == [caption.text for _, caption in again]
    assert sum(scene.kind == "shape" for scene, _ in first) == 4


def test_the_table_has_a_row_per_model_and_counts() -> None:
    scores = dict.fromkeys(METRICS, (1, 2)) | {"shape": (0, 0)}
    lines = markdown_table({"a": scores, "b": scores}).splitlines()
    assert len(lines) == 5
    assert "0.50" in lines[2]
    assert " - " in lines[2]


def test_styles_are_part_of_a_scene() -> None:
    scene = sample_scene(0)
    assert replace(scene, style="oil").labels()["style"] == VOCABULARY["style"].index("oil")


def test_training_can_begin_with_an_exported_model(tmp_path: Path) -> None:
    build_autoencoder().load_state_dict(start_weights(MODEL, "vae"))
    build_transformer().load_state_dict(start_weights(MODEL, "transformer"))
    copy_text_encoders(MODEL, tmp_path)
    pooled, states = TextEncoders.load(tmp_path, torch.device("cpu")).encode(["a lighthouse in a storm"], 28)
    assert (pooled.shape, states.shape) == ((1, 128), (1, 28, 128))


def test_stages_that_were_left_out_give_what_the_configuration_starts_from(tmp_path: Path) -> None:
    config = load_config(CONFIGS / "smoke.toml", tmp_path / "work", tmp_path / "out")
    copy_text_encoders(MODEL, tmp_path / "work" / "model")
    with pytest.raises(FileNotFoundError, match="flow"):
        export_model(config)
    folder = export_model(replace(config, start_from=MODEL))
    for part in ("vae", "transformer"):
        kept, given = start_weights(folder, part), start_weights(MODEL, part)
        assert kept.keys() == given.keys()
        assert all(torch.equal(kept[name], given[name]) for name in given)


def test_training_does_not_begin_from_nothing_unnoticed(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        start_weights(tmp_path, "vae")
    with pytest.raises(FileNotFoundError):
        copy_text_encoders(tmp_path, tmp_path / "model")
