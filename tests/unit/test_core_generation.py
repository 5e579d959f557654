"""`core.generation`: every rule and message of a client's `input`."""

import dataclasses
import math
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flux_endpoint.core.acceleration import Acceleration
from flux_endpoint.core.catalog import CATALOG, FLUX_DEV, FLUX_SCHNELL
from flux_endpoint.core.drafts import Draft
from flux_endpoint.core.errors import InvalidParameter
from flux_endpoint.core.generation import GenerationRequest, parse_input, random_seed
from flux_endpoint.core.image_formats import JPEG, PNG
from flux_endpoint.core.input_kinds import MAX_SEED
from flux_endpoint.core.negative_mode import NegativeMode
from flux_endpoint.core.picture_work import steps_drawn
from flux_endpoint.core.source_picture import PICTURES, SourcePicture

INFINITY = math.inf
NAN = math.nan


def problem_with(spec=FLUX_DEV, **fields):
    with pytest.raises(InvalidParameter) as caught:
        parse_input({"prompt": "a fox"} | fields, spec)
    return str(caught.value)


def test_a_prompt_is_enough_and_the_rest_is_the_models_default():
    assert parse_input({"prompt": "a fox"}, FLUX_DEV, draw_seed=lambda: 7) == GenerationRequest(
        prompt="a fox",
        negative_prompt="",
        width=1024,
        height=1024,
        num_inference_steps=28,
        guidance=7.5,
        true_cfg_scale=3.0,
        seed=7,
        image_format=JPEG,
    )
    assert parse_input({"prompt": "a fox"}, FLUX_SCHNELL).num_inference_steps == 4


def test_every_parameter_is_taken_as_it_was_sent():
    fields = {
        "prompt": " Żółć\n猫 \U0001f98a ",
        "negative_prompt": "blurry",
        "width": 256,
        "height": 1536,
        "num_inference_steps": 50,
        "guidance": 0,
        "true_cfg_scale": 10,
        "negative_mode": "nag",
        "seed": MAX_SEED,
        "image_format": "png",
        "acceleration": "high",
    }
    request = parse_input(fields, FLUX_DEV)
    assert request.to_input() == fields
    assert parse_input(fields | {"num_images": 3}, FLUX_DEV).to_input() == fields | {"num_images": 3}
    assert isinstance(request.guidance, float)
    assert parse_input(request.to_input(), FLUX_DEV) == request


def test_the_seeds_of_several_pictures_follow_one_another():
    request = parse_input({"prompt": "a fox", "seed": MAX_SEED - 1, "num_images": 3}, FLUX_DEV)
    assert [picture.seed for picture in request.pictures] == [MAX_SEED - 1, MAX_SEED, 0]
    alone = parse_input({"prompt": "a fox", "seed": MAX_SEED - 1}, FLUX_DEV)
    assert request.pictures[0] == alone == alone.pictures[0]
    assert GenerationRequest.from_input(request.to_input()) == request


def test_a_negative_prompt_acts_as_suits_the_model_and_as_strongly_as_suits_that():
    def acts(spec, **fields):
        request = parse_input({"prompt": "a fox", "negative_prompt": "snow"} | fields, spec)
        assert request.has_negative
        assert GenerationRequest.from_input(request.to_input()) == request
        assert parse_input(request.to_input(), spec) == request
        return request.negative_mode, request.true_cfg_scale

    assert acts(FLUX_DEV) == (NegativeMode.CFG, 3.0)
    assert acts(FLUX_SCHNELL) == (NegativeMode.NAG, 5.0)
    assert acts(FLUX_DEV, negative_mode="nag") == (NegativeMode.NAG, 5.0)
    assert acts(FLUX_SCHNELL, negative_mode="cfg") == (NegativeMode.CFG, 3.0)
    assert acts(FLUX_SCHNELL, true_cfg_scale=3) == (NegativeMode.NAG, 3.0)
    assert problem_with(negative_mode="vsf") == "Invalid parameter: negative_mode must be 'cfg' or 'nag'"


def test_without_a_negative_prompt_nothing_tells_how_it_would_act():
    without = parse_input({"prompt": "a fox", "seed": 1}, FLUX_SCHNELL)
    assert not without.has_negative
    assert "negative_mode" not in without.to_input()
    assert parse_input({"prompt": "a fox", "seed": 1, "negative_mode": "nag"}, FLUX_SCHNELL) == without
    weak = parse_input({"prompt": "a fox", "negative_prompt": "snow", "true_cfg_scale": 1}, FLUX_SCHNELL)
    assert not weak.has_negative
    # A job from before there was a choice.
    fields = parse_input({"prompt": "a fox", "negative_prompt": "snow"}, FLUX_SCHNELL).to_input()
    del fields["negative_mode"]
    assert GenerationRequest.from_input(fields).negative_mode is NegativeMode.CFG


def test_who_names_no_level_gets_the_endpoints():
    spec = dataclasses.replace(FLUX_DEV, acceleration=Acceleration.REGULAR)
    assert parse_input({"prompt": "a fox"}, spec).acceleration is Acceleration.REGULAR
    assert parse_input({"prompt": "a fox", "acceleration": "none"}, spec).acceleration is Acceleration.NONE
    assert problem_with(acceleration="fast") == "Invalid parameter: acceleration must be 'none', 'regular' or 'high'"
    assert problem_with(acceleration=1) == "Invalid parameter: acceleration must be 'none', 'regular' or 'high'"


def test_a_job_from_before_there_were_levels_is_exact():
    fields = parse_input({"prompt": "a fox", "acceleration": "high"}, FLUX_DEV).to_input()
    assert GenerationRequest.from_input(fields).acceleration is Acceleration.HIGH
    del fields["acceleration"]
    assert GenerationRequest.from_input(fields).acceleration is Acceleration.NONE


def test_unknown_keys_are_ignored():
    fields = {"prompt": "a fox", "seed": 1}
    assert parse_input(fields | {"strength": 0.8, "": None}, FLUX_DEV) == parse_input(fields, FLUX_DEV)


def test_the_prompt_is_required():
    with pytest.raises(InvalidParameter, match="Invalid parameter: prompt is required") as caught:
        parse_input({"negative_prompt": 5}, FLUX_DEV)
    assert caught.value.field == "prompt"


def test_null_is_absent_but_for_the_prompt():
    chosen = parse_input({"prompt": "a fox"}, FLUX_DEV, draw_seed=lambda: 11)
    nulls = dict.fromkeys(chosen.to_input())
    assert parse_input(nulls | {"prompt": "a fox"}, FLUX_DEV, draw_seed=lambda: 11) == chosen
    assert problem_with(prompt=None) == "Invalid parameter: prompt must be a string"


@pytest.mark.parametrize("prompt", ["", " ", "\n\t "])
def test_the_prompt_must_say_something(prompt):
    assert problem_with(prompt=prompt) == "Invalid parameter: prompt must not be empty"


def test_the_negative_prompt_may_be_empty():
    assert parse_input({"prompt": "a fox", "negative_prompt": ""}, FLUX_DEV).negative_prompt == ""


@pytest.mark.parametrize("field", ["prompt", "negative_prompt"])
@pytest.mark.parametrize(
    ("value", "problem"),
    [
        (5, "must be a string"),
        (["a fox"], "must be a string"),
        ("a" * 10_001, "must be at most 10000 characters, got 10001"),
        ("a \ud800 fox", "must be valid Unicode text, without lone surrogates"),
        ("a \x00 fox", "must not contain the character U+0000"),
    ],
)
def test_texts_that_are_refused(field, value, problem):
    assert problem_with(**{field: value}) == f"Invalid parameter: {field} {problem}"


@pytest.mark.parametrize("field", ["prompt", "negative_prompt"])
def test_a_text_may_be_as_long_as_the_limit(field):
    assert getattr(parse_input({"prompt": "a fox", field: "é" * 10_000}, FLUX_DEV), field) == "é" * 10_000


NO_INTEGERS = ["1024", 1024.5, True, False, [1024], {}, NAN, INFINITY]


@pytest.mark.parametrize("field", ["width", "height", "num_inference_steps", "seed"])
@pytest.mark.parametrize("value", NO_INTEGERS)
def test_what_is_no_integer_is_refused(field, value):
    assert problem_with(**{field: value}) == f"Invalid parameter: {field} must be an integer"


@pytest.mark.parametrize("field", ["width", "height"])
@pytest.mark.parametrize(
    ("value", "problem"),
    [
        (0, "must be between 256 and 1536"),
        (-1024, "must be between 256 and 1536"),
        (192, "must be between 256 and 1536"),
        (255, "must be between 256 and 1536"),
        (1537, "must be between 256 and 1536"),
        (1600, "must be between 256 and 1536"),
        (10**400, "must be between 256 and 1536"),
        (257, "must be divisible by 64"),
        (1000, "must be divisible by 64"),
        (1535, "must be divisible by 64"),
    ],
)
def test_sizes_that_are_refused(field, value, problem):
    assert problem_with(**{field: value}) == f"Invalid parameter: {field} {problem}"


@pytest.mark.parametrize("size_px", range(256, 1537, 64))
def test_every_multiple_of_64_is_a_size(size_px):
    request = parse_input({"prompt": "a fox", "width": size_px, "height": float(size_px)}, FLUX_DEV)
    assert (request.width, request.height) == (size_px, size_px)
    assert isinstance(request.height, int)


@pytest.mark.parametrize("spec", [FLUX_DEV, FLUX_SCHNELL], ids=["dev", "schnell"])
def test_sizes_that_official_clients_send_are_taken_as_a_pair_only(spec):
    for width, height in ((1328, 1328), (1472, 1140), (1140, 1472)):
        request = parse_input({"prompt": "a fox", "width": width, "height": height}, spec)
        assert (request.width, request.height) == (width, height)
    assert problem_with(spec, width=1328) == "Invalid parameter: width must be divisible by 64"
    assert problem_with(spec, width=1140, height=1140) == "Invalid parameter: width must be divisible by 64"


@pytest.mark.parametrize(("spec", "most"), [(FLUX_DEV, 50), (FLUX_SCHNELL, 8)], ids=["dev", "schnell"])
def test_steps_have_the_limits_of_their_model(spec, most):
    for steps in (1, most, float(most)):
        assert parse_input({"prompt": "a fox", "num_inference_steps": steps}, spec).num_inference_steps == steps
    for steps in (0, -1, most + 1, 10**400):
        problem = f"Invalid parameter: num_inference_steps must be between 1 and {most}"
        assert problem_with(spec, num_inference_steps=steps) == problem


@pytest.mark.parametrize(("field", "least"), [("guidance", 0), ("true_cfg_scale", 1)])
def test_scales_have_limits(field, least):
    for value in (least, least + 0.5, 10, 10.0):
        assert getattr(parse_input({"prompt": "a fox", field: value}, FLUX_DEV), field) == value
    for value in (least - 0.01, -1, 10.01, 10**400, NAN, INFINITY, -INFINITY):
        assert problem_with(**{field: value}) == f"Invalid parameter: {field} must be between {least} and 10"
    for value in ("7.5", True, [7.5], {}):
        assert problem_with(**{field: value}) == f"Invalid parameter: {field} must be a number"


@pytest.mark.parametrize("fields", [{}, {"seed": -1}, {"seed": -1.0}])
def test_a_seed_nobody_chose_is_drawn_once(fields):
    request = parse_input({"prompt": "a fox"} | fields, FLUX_DEV, draw_seed=lambda: 11)
    assert request.seed == 11
    assert parse_input(request.to_input(), FLUX_DEV, draw_seed=lambda: 12).seed == 11


@pytest.mark.parametrize("seed", [0, 1, MAX_SEED])
def test_a_chosen_seed_is_kept(seed):
    assert parse_input({"prompt": "a fox", "seed": seed}, FLUX_DEV, draw_seed=lambda: 5).seed == seed


@pytest.mark.parametrize("seed", [-2, MAX_SEED + 1, 2**64, -(10**400)])
def test_seeds_that_are_refused(seed):
    assert problem_with(seed=seed) == "Invalid parameter: seed must be -1 (random) or between 0 and 4294967295"


def test_drawn_seeds_differ_and_are_in_range():
    seeds = {random_seed() for _ in range(100)}
    assert len(seeds) > 90
    assert all(0 <= seed <= MAX_SEED for seed in seeds)


@pytest.mark.parametrize("value", [1, "", "JPEG", "gif", ["png"], {}])
def test_formats_that_are_refused(value):
    assert problem_with(image_format=value) == "Invalid parameter: image_format must be 'jpeg', 'png' or 'webp'"


def test_formats_know_their_names():
    assert (JPEG.extension, JPEG.media_type) == ("jpg", "image/jpeg")
    assert (PNG.extension, PNG.media_type) == ("png", "image/png")


def test_jpeg_is_what_jpg_means():
    assert parse_input({"prompt": "a fox", "image_format": "jpg"}, FLUX_DEV).image_format == JPEG


def test_the_first_wrong_field_is_named():
    wrong = {
        "prompt": "",
        "negative_prompt": 1,
        "width": 1,
        "height": 1,
        "num_inference_steps": 0,
        "guidance": -1,
        "true_cfg_scale": 0,
        "seed": -2,
        "image_format": "gif",
        "acceleration": "fast",
    }
    right = {name: value for name, value in parse_input({"prompt": "a fox"}, FLUX_DEV).to_input().items()}
    named = []
    while wrong:
        with pytest.raises(InvalidParameter) as caught:
            parse_input(right | wrong, FLUX_DEV)
        named.append(caught.value.field)
        del wrong[caught.value.field]
    assert named == list(right)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
FIELDS = list(parse_input({"prompt": "a fox"}, FLUX_DEV).to_input())


# The first text Hypothesis draws on a machine takes seconds: it tabulates Unicode.
@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.dictionaries(st.sampled_from(FIELDS), json_values), st.sampled_from(list(CATALOG.values())))
def test_whatever_is_sent_is_a_valid_request_or_a_named_problem(fields, spec):
    try:
        request = parse_input({"prompt": "a fox"} | fields, spec)
    except InvalidParameter as problem:
        assert problem.field in {*FIELDS, *PICTURES}
        assert str(problem).startswith(f"Invalid parameter: {problem.field} ")
    else:
        assert parse_input(request.to_input(), spec) == request


def test_a_draft_stops_before_the_last_step_that_is_drawn():
    assert "stop_after must be below the 28 steps of the picture" in problem_with(stop_after=28)
    assert "stop_after must be between 0 and 49" in problem_with(stop_after=50)
    assert "stop_after must be between 0 and 7" in problem_with(FLUX_SCHNELL, stop_after=8)
    assert "stop_after must be below the 4 steps" in problem_with(FLUX_SCHNELL, stop_after=4)
    # Of a picture that starts from another, only what is left to draw counts.
    image = SourcePicture("k", "a", 512, 512)
    assert "stop_after must be below the 14 steps" in problem_with(image=image, strength=0.5, stop_after=14)
    draft = parse_input({"prompt": "a fox", "image": image, "strength": 0.5, "stop_after": 13}, FLUX_DEV)
    rest = draft.finishing(Draft("k", "b", 13))
    assert (draft.steps_to_draw, rest.steps_to_draw, rest.whole_steps) == (13, 1, 14)
    for request in (draft, rest):
        assert GenerationRequest.from_input(request.to_input()) == request
    assert rest.to_input() == replace(draft, stop_after=0).to_input() | {"draft": rest.draft.to_input()}
    assert [steps_drawn(request.to_input()) for request in (replace(draft, num_images=3), rest)] == [13, 1]
    for strange in ({"draft": 3}, {"draft": {"steps": "1"}}, {"stop_after": "x"}, {"stop_after": -1}):
        assert steps_drawn(rest.to_input() | {"draft": None} | strange) == 14
    assert steps_drawn({"prompt": "a fox"}) == 0
