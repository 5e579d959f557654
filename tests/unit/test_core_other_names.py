"""`other_names`: what each field that other servers' clients send is taken for, and what is said of what is not."""

import pytest

from flux_endpoint.core.catalog import FLUX_CANNY, FLUX_DEV, FLUX_SCHNELL
from flux_endpoint.core.endpoint import FluxEndpoint
from flux_endpoint.core.errors import InvalidParameter
from flux_endpoint.core.inputs import INPUTS
from flux_endpoint.core.other_names import heard, unknown
from flux_endpoint.core.source_picture import SourcePicture

DEV = FluxEndpoint(FLUX_DEV)
FOX = {"prompt": "a fox"}


def accept(**fields):
    """What of the job differs from that of the prompt alone, and the warnings."""
    accepted, plain = DEV.accept(FOX | {"seed": 1} | fields), DEV.accept(FOX | {"seed": 1})
    changes = {name: value for name, value in accepted.input.items() if plain.input.get(name) != value}
    return changes, accepted.warnings


def problem_with(spec=DEV, **fields):
    with pytest.raises(InvalidParameter) as caught:
        spec.accept(FOX | fields)
    assert caught.value.field in fields
    return str(caught.value).removeprefix("Invalid parameter: ")


@pytest.mark.parametrize(
    ("name", "value", "meant"),
    [
        ("size", "512*768", {"width": 512, "height": 768}),
        ("size", "768x512", {"width": 768, "height": 512}),
        ("size", "auto", {}),
        ("aspect_ratio", "16:9", {"width": 1344, "height": 768}),
        ("aspect_ratio", "1:1", {}),
        ("output_format", "png", {"image_format": "png"}),
        ("output_format", "jpg", {}),
        ("guidance_scale", 3.5, {"guidance": 3.5}),
        ("steps", 7, {"num_inference_steps": 7}),
        ("n", 1, {}),
        ("n", 4, {"num_images": 4}),
        ("num_outputs", 2, {"num_images": 2}),
        ("num_images_per_prompt", 3, {"num_images": 3}),
    ],
)
def test_what_others_call_an_input_is_understood(name, value, meant):
    assert accept(**{name: value}) == (meant, ())


PICTURES = {
    "image": ("image_url", "init_image", "input_image"),
    "mask": ("mask_url", "mask_image"),
    "strength": ("prompt_strength", "denoising_strength"),
}
CONTROL = ("control_image_url", "preprocessed_image")


@pytest.mark.parametrize("alias", [alias for aliases in PICTURES.values() for alias in aliases])
def test_what_others_call_the_pictures_to_draw_from_is_understood(alias):
    kept = {"image": SourcePicture("k", "a", 512, 512), "mask": SourcePicture("m", "b", 512, 512), "strength": 0.25}
    [(name, value)] = [(name, kept[name]) for name, aliases in PICTURES.items() if alias in aliases]
    accepted, _ = accept(
        **{name: value for name, value in kept.items() if alias not in PICTURES[name]} | {alias: value}
    )
    assert accepted[name] == (value if name == "strength" else value.to_input())


def test_a_strength_without_a_picture_is_told():
    assert accept(prompt_strength=0.5) == ({}, ("prompt_strength has no effect without an image",))


@pytest.mark.parametrize("alias", CONTROL)
def test_what_others_call_a_map_to_draw_along_is_understood(alias):
    kept = SourcePicture("c", "d", 512, 512)
    accepted = FluxEndpoint(FLUX_CANNY).accept(FOX | {alias: kept})
    assert (accepted.input["control_image"], accepted.warnings) == (kept.to_input(), ())


def test_every_other_name_of_an_input_is_in_a_test_above():
    pictures = {alias for aliases in PICTURES.values() for alias in aliases}
    others = {"steps", "guidance_scale", "output_format", "n", "num_outputs", "num_images_per_prompt"}
    # In test_lora_shelf.py: it needs files.
    others |= {"image_loras", *CONTROL}
    # In test_core_controlnet.py.
    others |= {"controlnet_conditioning_scale", "conditioning_scale", "control_strength"}
    others |= {"control_guidance_start", "start_percentage", "control_guidance_end", "end_percentage"}
    # In tests/api/test_image_prompts.py.
    others |= {"redux_image", "image_prompt_strength"}
    assert {alias for row in INPUTS for alias in row.aliases} == others | pictures


def test_a_size_is_paid_for():
    assert DEV.accept(FOX | {"size": "512*512"}).cost_usd == DEV.accept(FOX | {"width": 512, "height": 512}).cost_usd


@pytest.mark.parametrize("name", ["n", "num_images", "num_outputs", "num_images_per_prompt"])
def test_each_picture_is_paid_for_and_there_are_at_most_four(name):
    one = DEV.accept(FOX)
    assert DEV.accept(FOX | {name: 4}).cost_usd == 4 * one.cost_usd
    for value in (0, 5, -1):
        assert problem_with(**{name: value}) == f"{name} must be between 1 and 4"
    for value in (1.5, "2", [1]):
        assert problem_with(**{name: value}) == f"{name} must be an integer"


@pytest.mark.parametrize(
    ("fields", "meant", "warning"),
    [
        ({"guidance": 2, "guidance_scale": 3}, {"guidance": 2.0}, "guidance_scale has no effect beside guidance"),
        (
            {"num_inference_steps": 5, "steps": 3},
            {"num_inference_steps": 5},
            "steps has no effect beside num_inference_steps",
        ),
        (
            {"image_format": "png", "output_format": "webp"},
            {"image_format": "png"},
            "output_format has no effect beside image_format",
        ),
        ({"width": 512, "size": "768x512"}, {"width": 512, "height": 512}, "size has no effect beside width"),
        (
            {"size": "512x512", "aspect_ratio": "16:9"},
            {"width": 512, "height": 512},
            "aspect_ratio has no effect beside size",
        ),
        ({"height": 512, "aspect_ratio": "1:1"}, {"height": 512}, "aspect_ratio has no effect beside width and height"),
    ],
)
def test_what_loses_against_another_name_is_told(fields, meant, warning):
    assert accept(**fields) == (meant, (warning,))


@pytest.mark.parametrize(
    "fields",
    [
        {"guidance": 2, "guidance_scale": 2},
        {"width": 512, "height": 768, "size": "512x768", "aspect_ratio": "2:3"},
        {"size": "1344x768", "aspect_ratio": "7:4"},
        {"guidance": None, "guidance_scale": 2},
        {"steps": None, "size": None, "aspect_ratio": None, "n": None, "strange": None, "quality": None},
        {"maxPollAttempts": 3, "pollIntervalMillis": 500, "user": "me"},
        {"quality": "auto", "background": "opaque", "output_compression": 100, "go_fast": False},
        {"enable_safety_checker": False, "disable_safety_checker": True},
    ],
)
def test_what_changes_nothing_is_not_told(fields):
    assert accept(**fields)[1] == ()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("quality", "high"),
        ("style", "vivid"),
        ("enable_safety_checker", True),
    ],
)
def test_what_flux_does_not_do_is_told(name, value):
    assert accept(**{name: value}) == ({}, (f"{name} has no effect on FLUX",))


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"size": "512"}, "size must be 'auto', or width and height in pixels such as '1024x768'"),
        ({"size": [512, 512]}, "size must be 'auto', or width and height in pixels such as '1024x768'"),
        ({"size": "500x512"}, "size must be divisible by 64"),
        ({"size": "64x512"}, "size must be between 256 and 1536"),
        ({"aspect_ratio": "wide"}, "aspect_ratio must be two whole numbers such as '16:9'"),
        ({"aspect_ratio": "99:1"}, "aspect_ratio asks for 10176x128: sides are from 256 to 1536"),
        ({"output_format": "gif"}, "output_format must be 'jpeg', 'png' or 'webp'"),
        ({"guidance_scale": "3"}, "guidance_scale must be a number"),
        ({"steps": 51}, "steps must be between 1 and 50"),
        ({"width": 500, "guidance_scale": 2}, "width must be divisible by 64"),
        ({"image_format": "png", "output_format": "gif"}, "output_format must be 'jpeg', 'png' or 'webp'"),
        ({"n": 1.5}, "n must be an integer"),
    ],
)
def test_what_is_wrong_is_told_of_the_field_that_was_sent(fields, problem):
    assert problem_with(**fields) == problem


def test_limits_are_those_of_the_model():
    assert problem_with(FluxEndpoint(FLUX_SCHNELL), steps=9) == "steps must be between 1 and 8"


def test_an_unknown_field_is_told_with_the_nearest_known_name():
    _, warnings = accept(guidence=2, hight=512, negativ_prompt="x", zoom=True)
    assert set(warnings) == {
        "guidence: did you mean guidance?",
        "hight: did you mean height?",
        "negativ_prompt: did you mean negative_prompt?",
        "zoom: not known here",
    }


def test_a_prompt_that_is_null_is_told_as_such():
    with pytest.raises(InvalidParameter, match="prompt must be a string"):
        DEV.accept({"prompt": None, "strange": 1})


def test_of_many_unknown_fields_some_are_told_and_the_others_counted():
    warnings = heard({f"field-{number}": 1 for number in range(100_000)}).warnings
    assert len(warnings) == 11
    assert warnings[-1] == "99990 more fields are not known here"


@pytest.mark.parametrize(
    ("name", "told"),
    [("a\nb", r"a\nb"), ("\ud800", r"\ud800"), ("\x00", r"\x00"), ("é", "é"), ("x" * 99, "x" * 60 + "...")],
)
def test_a_name_that_cannot_be_shown_is_escaped_and_a_long_one_cut(name, told):
    assert unknown({name: 1}, ["prompt"], "policy.") == (f"policy.{told}: not known here",)
