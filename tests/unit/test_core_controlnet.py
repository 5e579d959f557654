"""What is said of a ControlNet: where it is taken, what is wrong, and what is told."""

import pytest

from flux_endpoint.core.catalog import CATALOG, FLUX_DEV
from flux_endpoint.core.controlnet import ControlMode, ControlNetKind, NamedControlNet
from flux_endpoint.core.endpoint import FluxEndpoint
from flux_endpoint.core.errors import InvalidParameter
from flux_endpoint.core.generation import GenerationRequest, parse_input
from flux_endpoint.core.inputs import OF_CONTROLNET
from flux_endpoint.core.picture_work import size_and_level
from flux_endpoint.core.source_picture import SourcePicture

MAP = SourcePicture("c", "d", 512, 384)
URL = "https://x.example/map.png"
SINGLE, UNION = ControlNetKind.SINGLE, ControlNetKind.UNION


def accept(kind, **fields):
    return FluxEndpoint(FLUX_DEV, controlnet=kind).accept({"prompt": "a hall"} | fields)


def test_a_map_has_its_say_in_the_shape_and_defaults_follow_diffusers():
    made = accept(SINGLE, control_image=MAP, acceleration="high").input
    assert (made["width"], made["height"], made["control_image"]) == (512, 384, MAP.to_input())
    assert (made["control_scale"], made["control_start"], made["control_end"]) == (1.0, 0.0, 1.0)
    assert "control_mode" not in made
    assert size_and_level(made)[1] == "none"
    assert GenerationRequest.from_input(made).to_input() == made


@pytest.mark.parametrize("mode", list(ControlMode))
def test_a_kind_of_map_has_a_name_and_a_number(mode):
    for sent in (mode.value, mode.number, float(mode.number)):
        assert accept(UNION, control_image=MAP, control_mode=sent).input["control_mode"] == mode.value


@pytest.mark.parametrize(
    ("ours", "alias"),
    [
        ("control_scale", "controlnet_conditioning_scale"),
        ("control_scale", "conditioning_scale"),
        ("control_scale", "control_strength"),
        ("control_start", "control_guidance_start"),
        ("control_start", "start_percentage"),
        ("control_end", "control_guidance_end"),
        ("control_end", "end_percentage"),
    ],
)
def test_what_others_call_it_is_understood(ours, alias):
    accepted = accept(SINGLE, control_image=MAP, **{alias: 0.25})
    assert (accepted.input[ours], accepted.warnings) == (0.25, ())


@pytest.mark.parametrize(
    ("kind", "fields", "problem"),
    [
        (
            None,
            {"control_image": URL},
            "control_image needs a ControlNet, which is not loaded here .setting CONTROLNET",
        ),
        (None, {"preprocessed_image": URL}, "preprocessed_image needs a ControlNet"),
        (None, {"control_mode": 3}, "control_mode needs a ControlNet"),
        (None, {"control_strength": 1.0}, "control_strength needs a ControlNet"),
        (UNION, {"control_image": URL}, "control_mode is required by the ControlNet .* canny, tile, depth, blur"),
        (SINGLE, {"control_image": URL, "control_mode": "pose"}, "control_mode is not taken: .* one kind of map"),
        (UNION, {"control_image": URL, "control_mode": "edges"}, "control_mode must be canny, .* or 0 to 6"),
        (UNION, {"control_image": URL, "control_mode": 7}, "control_mode must be canny"),
        (UNION, {"control_image": URL, "control_mode": True}, "control_mode must be canny"),
        (UNION, {"control_image": URL, "control_mode": [1]}, "control_mode must be canny"),
        (SINGLE, {"control_image": URL, "control_scale": 2.1}, "control_scale must be between 0 and 2"),
        (SINGLE, {"control_image": URL, "end_percentage": "all"}, "end_percentage must be a number"),
        (SINGLE, {"control_image": URL, "control_start": 0.6, "control_end": 0.5}, "must not be above control_end"),
        (SINGLE, {"control_image": "ftp://x/y"}, "control_image must"),
    ],
)
def test_what_is_wrong_is_refused_under_the_name_that_was_sent(kind, fields, problem):
    with pytest.raises(InvalidParameter, match=problem):
        accept(kind, **fields)


def test_what_has_no_effect_is_told():
    accepted = accept(UNION, control_scale=0.5, control_mode="tile")
    assert accepted.warnings == tuple(
        f"control_{name} has no effect without a control_image" for name in ("mode", "scale")
    )
    assert not {*OF_CONTROLNET} & accepted.input.keys()
    assert accept(None, control_image="", control_mode="").warnings == (
        "control_mode has no effect without a control_image",
    )


def test_the_fields_are_shown_where_they_are_taken():
    for spec in CATALOG.values():
        for kind, taken in ((None, ()), (SINGLE, {*OF_CONTROLNET} - {"control_mode"}), (UNION, OF_CONTROLNET)):
            shown = FluxEndpoint(spec, controlnet=kind).accepted_schema["properties"]
            expected = {"control_image"} if spec.family.reads_map else {*taken} if spec is FLUX_DEV else set()
            assert {*OF_CONTROLNET} & shown.keys() == expected
    mode = FluxEndpoint(FLUX_DEV, controlnet=UNION).accepted_schema["properties"]["control_mode"]
    assert mode["type"] == ["string", "integer", "null"]
    assert mode["enum"] == ["", *ControlMode, *range(7), None]


def test_it_stands_beside_a_picture_to_start_from():
    request = parse_input(
        {"prompt": "a hall", "image": SourcePicture("i", "i", 640, 640), "control_image": MAP, "strength": 0.5},
        FLUX_DEV,
        controlnet=SINGLE,
    )
    assert (request.width, request.height, request.strength, request.control_scale) == (640, 640, 0.5, 1.0)


@pytest.mark.parametrize(
    ("place", "name"),
    [("a-b/c", "a-b/c"), ("./nets/mine", "mine"), ("/nets/mine", "mine"), ("nets/of/mine", "mine"), ("mine", "mine")],
)
def test_its_name_in_pictures_tells_no_folders(place, name):
    assert NamedControlNet(place).name == name
