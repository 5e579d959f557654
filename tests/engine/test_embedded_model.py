"""The embedded model draws what its prompts say: counted by the checker of `training/`, through our own engine."""

import io
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from transformers.models.clip.tokenization_clip import CLIPTokenizer
from transformers.models.t5.tokenization_t5 import T5Tokenizer

import flux_endpoint
from flux_endpoint.core.acceleration import Acceleration
from flux_endpoint.core.catalog import FLUX_DEV, FLUX_SCHNELL
from flux_endpoint.core.generation import parse_input
from flux_endpoint.core.image_formats import PNG
from flux_endpoint.core.inputs import defaults_of
from flux_endpoint.engine.engine import FluxEngine
from flux_endpoint.engine.protocol import finish
from tests.engine.conftest import make_request, open_engine
from training.checker.checker import Checker, Verdict
from training.evaluate.report import REFERENCE_PROMPT, TRUE_CFG_SCALE
from training.export.folder import MAX_BYTES, MAX_BYTES_WITH_STUDENT, STUDENT_FOLDER

MODEL = Path(flux_endpoint.__file__).parent / "models" / "demo"
NEWCOMER = Path(__file__).parents[1] / "browser" / "newcomer.txt"
# What to draw, and the time of day and the ground that must be seen.
PROMPTS = (
    ("a calm lake below mountains at sunset", "sunset", "lake"),
    ("a meadow on a sunny day, blue sky", "day", "meadow"),
    ("the sea at night, a full moon", "night", "sea"),
    ("desert dunes at noon", "day", "desert"),
    ("a wheat field in the morning", "dawn", "field"),
    ("a pine forest in front of snowy mountains on a bright day", "day", "forest"),
    ("a sandy beach at sunset, the sun", "sunset", "beach"),
    ("a snowy plain at dawn", "dawn", "snow"),
    ("Mountains behind a lake at night, stars in the sky", "night", "lake"),
    ("a serene ocean at sunrise", "dawn", "sea"),
    ("rolling hills and a green meadow in the evening, photorealistic", "sunset", "meadow"),
    ("a beach by day, a few clouds", "day", "beach"),
    ("a dense forest at sunset, golden light, 4k", "sunset", "forest"),
    ("sand dunes under the stars", "night", "desert"),
    ("A field of wheat with mountains, blue sky, masterpiece", "day", "field"),
    ("deep snow and distant mountains at sunset", "sunset", "snow"),
)
# "A landscape" is at night in one of five; 21, which is known to be, makes sure of enough.
LANDSCAPE_SEEDS = (*range(10), 21, 23)

DEFAULTS = defaults_of(FLUX_DEV)


@pytest.fixture(scope="module")
def checker() -> Checker:
    return Checker.load()


def draw(engine: FluxEngine, prompt: str, side: int = 256, seed: int = 0, **changes: object) -> np.ndarray:
    defaults = {
        "num_inference_steps": 28,
        "guidance": DEFAULTS["guidance"],
        "true_cfg_scale": DEFAULTS["true_cfg_scale"],
        "image_format": PNG,
        # What is judged here is not seen in the last bit, and this takes half of the time.
        "acceleration": Acceleration.REGULAR,
    }
    request = make_request(prompt=prompt, seed=seed, width=side, height=side, **(defaults | changes))
    data = finish(engine.generate(request)).data
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


def redness(pictures: Sequence[np.ndarray]) -> float:
    """How much redder than blue the skies are, mean over the top quarters, -255 to 255."""
    return float(np.mean([picture[:64, :, 0].mean() - picture[:64, :, 2].mean() for picture in pictures]))


def brightness(pictures: Sequence[np.ndarray]) -> float:
    """Mean of the top quarters, 0 to 255."""
    return float(np.mean([picture[:64].mean() for picture in pictures]))


def share(hits: Sequence[bool]) -> float:
    return sum(hits) / len(hits)


def judged(
    engine: FluxEngine, checker: Checker, count: int, side: int, **changes: object
) -> list[tuple[str, str, Verdict]]:
    asked = PROMPTS[:count]
    verdicts = checker.judge([draw(engine, prompt, side, seed, **changes) for seed, (prompt, _, _) in enumerate(asked)])
    return [(time, ground, verdict) for (_, time, ground), verdict in zip(asked, verdicts, strict=True)]


def test_fits_into_the_package() -> None:
    assert (MODEL / "model_index.json").is_file()
    sizes = {file: file.stat().st_size for file in MODEL.rglob("*") if file.is_file()}
    student = sum(size for file, size in sizes.items() if STUDENT_FOLDER in file.parts)
    assert sum(sizes.values()) - student <= MAX_BYTES
    assert sum(sizes.values()) <= MAX_BYTES_WITH_STUDENT


def test_knows_every_word_of_its_captions_whatever_the_case() -> None:
    clip = CLIPTokenizer.from_pretrained(MODEL / "tokenizer")
    t5 = T5Tokenizer.from_pretrained(MODEL / "tokenizer_2")
    for prompt, _, _ in PROMPTS:
        ids = t5(prompt).input_ids
        assert t5.unk_token_id not in ids
        assert t5(prompt.upper()).input_ids == ids
        assert clip(prompt.upper()).input_ids == clip(prompt).input_ids
    assert len(t5("serene mountain landscape").input_ids) == 4


def test_an_answer_says_what_of_a_newcomers_prompt_cannot_be_drawn_well(demo_engine: FluxEngine) -> None:
    prompts = NEWCOMER.read_text(encoding="utf-8").splitlines()
    said = {}
    for prompt in prompts:
        request = make_request(prompt=prompt, width=256, height=256, num_inference_steps=1, image_format=PNG)
        said[prompt] = finish(demo_engine.generate(request)).warnings
    assert all(said.values())
    assert "torn outlines: cat." in said["a cat"][0]
    assert said["a red fox in snow"] == (
        "prompt has words that this small model does not know: fox; nearest: dog for fox.",
    )


def test_a_piece_of_the_gallery_is_drawn_again_by_its_input(demo_engine: FluxEngine) -> None:
    pieces = json.loads((MODEL / "gallery" / "gallery.json").read_text(encoding="utf-8"))
    [heart] = [piece for piece in pieces if piece["picture"] == "heart.webp"]
    again = Image.open(io.BytesIO(finish(demo_engine.generate(parse_input(heart["input"], FLUX_DEV))).data))
    shown = Image.open(MODEL / "gallery" / heart["picture"])
    again = again.convert("RGB").resize(shown.size, Image.Resampling.LANCZOS)
    assert np.abs(np.asarray(again).astype(int) - np.asarray(shown)).mean() < 4


def test_follows_captions_at_256_px(demo_engine: FluxEngine, checker: Checker) -> None:
    seen = judged(demo_engine, checker, count=16, side=256)
    assert share([verdict.seen["time"] == time for time, _, verdict in seen]) >= 0.75
    assert share([verdict.seen["ground"] == ground for _, ground, verdict in seen]) >= 0.6
    assert share([verdict.has_one_horizon for _, _, verdict in seen]) >= 0.75


def test_follows_captions_at_512_px(demo_engine: FluxEngine, checker: Checker) -> None:
    seen = judged(demo_engine, checker, count=6, side=512)
    assert share([verdict.seen["time"] == time for time, _, verdict in seen]) >= 0.7
    assert share([verdict.has_one_horizon for _, _, verdict in seen]) >= 0.7


@pytest.mark.parametrize("negative_prompt", ["", "blurry, low quality"])
def test_draws_the_first_picture_of_every_newcomer(
    demo_engine: FluxEngine, checker: Checker, negative_prompt: str
) -> None:
    picture = draw(demo_engine, REFERENCE_PROMPT, side=1024, seed=42, negative_prompt=negative_prompt)
    [verdict] = checker.judge([picture])
    assert (verdict.seen["time"], verdict.has_one_horizon) == ("sunset", True)
    assert verdict.seen["background"] in ("mountains", "snowy_mountains")


def test_negative_prompts_are_scored_at_the_endpoints_default() -> None:
    assert DEFAULTS["true_cfg_scale"] == TRUE_CFG_SCALE


def test_negative_prompt_removes_what_it_names(demo_engine: FluxEngine, checker: Checker) -> None:
    def landscapes(negative_prompt: str) -> list[np.ndarray]:
        changes = {"negative_prompt": negative_prompt, "num_inference_steps": 14}
        return [draw(demo_engine, "a landscape", seed=seed, **changes) for seed in LANDSCAPE_SEEDS]

    def showing(pictures: list[np.ndarray], attribute: str, *values: str) -> int:
        return sum(verdict.seen[attribute] in values for verdict in checker.judge(pictures))

    plain, no_night, no_mountains = landscapes(""), landscapes("night"), landscapes("mountains")
    assert showing(plain, "time", "night") >= 3
    assert showing(no_night, "time", "night") == 0
    mountains = ("background", "mountains", "snowy_mountains")
    assert showing(plain, *mountains) >= 4
    assert showing(no_mountains, *mountains) <= showing(plain, *mountains) / 4  # Of 57 five keep theirs.
    assert brightness(no_night) > brightness(plain) + 25
    assert redness(landscapes("sunset")) < redness(plain) - 20


def test_seed_alone_decides_the_picture(demo_engine: FluxEngine) -> None:
    first, again, other = (draw(demo_engine, "a lake at dawn", seed=seed) for seed in (3, 3, 4))
    assert np.array_equal(first, again)
    assert np.abs(first.astype(int) - other).mean() > 2.5


def test_four_steps_give_the_right_palette(demo_engine: FluxEngine, checker: Checker) -> None:
    prompts = {"day": "a meadow at noon", "sunset": "the sea at sunset", "night": "mountains at night"}
    verdicts = checker.judge([draw(demo_engine, prompt, num_inference_steps=4) for prompt in prompts.values()])
    assert [verdict.seen["time"] for verdict in verdicts] == list(prompts)


def test_the_student_stays_away_from_what_it_is_told(checker: Checker) -> None:
    schnell, defaults = open_engine("demo", FLUX_SCHNELL), defaults_of(FLUX_SCHNELL)
    strength = {"negative_mode": defaults["negative_mode"], "true_cfg_scale": defaults["true_cfg_scale"]}

    def verdicts(negative_prompt: str) -> list[Verdict]:
        changes = {"negative_prompt": negative_prompt, "num_inference_steps": 4} | strength
        return checker.judge([draw(schnell, "a landscape", seed=seed, **changes) for seed in range(8)])

    def mountains(verdict: Verdict) -> bool:
        return verdict.seen["background"] in ("mountains", "snowy_mountains")

    plain, without = verdicts(""), verdicts("mountains")
    schnell.close()
    assert sum(map(mountains, plain)) >= 3
    assert sum(map(mountains, without)) <= 1
    assert share([verdict.has_one_horizon for verdict in without]) >= 0.85


def test_the_student_follows_captions_in_four_steps(checker: Checker) -> None:
    schnell = open_engine("demo", FLUX_SCHNELL)
    seen = judged(schnell, checker, count=16, side=512, num_inference_steps=4)
    schnell.close()
    assert share([verdict.seen["time"] == time for time, _, verdict in seen]) >= 0.85
    assert share([verdict.seen["ground"] == ground for _, ground, verdict in seen]) >= 0.6
    assert share([verdict.has_one_horizon for _, _, verdict in seen]) >= 0.85
