"""`core.catalog` and `core.inputs`: the models and what they take."""

import dataclasses
from dataclasses import replace
from decimal import Decimal

import pytest

from flux_endpoint.core.catalog import (
    CATALOG,
    FLUX_CANNY,
    FLUX_DEPTH,
    FLUX_DEV,
    FLUX_FILL,
    FLUX_KONTEXT,
    FLUX_SCHNELL,
    ModelFamily,
)
from flux_endpoint.core.controlnet import ControlNetKind
from flux_endpoint.core.errors import InvalidParameter
from flux_endpoint.core.generation import GenerationRequest, parse_input
from flux_endpoint.core.input_kinds import RANDOM_SEED
from flux_endpoint.core.inputs import INPUTS, OF_CONTROLNET, inputs_of, not_taken
from flux_endpoint.core.source_picture import PICTURES, SourcePicture

PICTURE = SourcePicture("k", "a", 512, 384)


def test_the_catalogue_holds_all_models_under_their_wire_ids():
    assert CATALOG == {
        "black-forest-labs-flux-1-dev": FLUX_DEV,
        "black-forest-labs-flux-1-schnell": FLUX_SCHNELL,
        "black-forest-labs-flux-1-kontext-dev": FLUX_KONTEXT,
        "black-forest-labs-flux-1-fill-dev": FLUX_FILL,
        "black-forest-labs-flux-1-canny-dev": FLUX_CANNY,
        "black-forest-labs-flux-1-depth-dev": FLUX_DEPTH,
    }
    assert (FLUX_DEV.family, FLUX_SCHNELL.family) == (ModelFamily.DEV, ModelFamily.SCHNELL)


@pytest.mark.parametrize("spec", CATALOG.values(), ids=CATALOG)
def test_every_default_is_an_input_that_is_accepted(spec):
    preset = {row.name: kind.default for row, kind in inputs_of(spec)}
    needed = {"prompt": "a fox"} | {name: PICTURE for name in PICTURES if preset.get(name, "") is None}
    # They can be sent where a ControlNet is loaded.
    kind = ControlNetKind.SINGLE
    request = parse_input(preset | needed, spec, draw_seed=lambda: RANDOM_SEED, controlnet=kind)
    assert [getattr(request, name) for name in PICTURES] == [needed.get(name) for name in PICTURES]
    # What most jobs do without is not in their rows, and pictures are not as they were sent.
    rows = replace(request, image=None, mask=None, control_image=None).to_input()
    assert rows.items() <= (preset | needed).items()
    assert isinstance(spec.price.usd, Decimal)


def test_kontext_takes_what_its_page_names_and_no_mask():
    picture = {"prompt": "make it winter", "image": PICTURE}
    request = parse_input(picture, FLUX_KONTEXT)
    size_and_more = (request.width, request.height, request.num_inference_steps, request.guidance)
    assert (*size_and_more, request.image_format.name, request.strength) == (1024, 1024, 28, 2.0, "png", 1.0)
    assert not_taken(FLUX_KONTEXT) == ("mask", "strength", *OF_CONTROLNET, "image_prompt", "image_prompt_scale")
    assert parse_input(picture | {"mask": "ftp://", "strength": 7}, FLUX_KONTEXT, lambda: request.seed) == request


@pytest.mark.parametrize(
    ("spec", "fields", "missing"),
    [
        (FLUX_KONTEXT, {}, "image"),
        (FLUX_FILL, {}, "image"),
        (FLUX_FILL, {"image": PICTURE}, "mask"),
        (FLUX_CANNY, {"image": PICTURE}, "control_image"),
        (FLUX_DEPTH, {}, "control_image"),
    ],
)
@pytest.mark.parametrize("absent", [{}, {"image": None, "mask": None, "control_image": None}])
def test_a_model_that_reads_pictures_must_be_sent_them(spec, fields, missing, absent):
    with pytest.raises(InvalidParameter, match=f"{missing} is required"):
        parse_input({"prompt": "a fox"} | absent | fields, spec)


def test_fill_has_its_own_defaults_and_the_shape_of_its_picture():
    request = parse_input({"prompt": "a bench", "image": PICTURE, "mask": PICTURE}, FLUX_FILL)
    assert (request.num_inference_steps, request.guidance, request.strength) == (50, 30.0, 1.0)
    assert (request.width, request.height) == (512, 384)


@pytest.mark.parametrize(("spec", "steps", "guidance"), [(FLUX_CANNY, 50, 30.0), (FLUX_DEPTH, 30, 10.0)])
def test_what_draws_along_a_map_has_its_own_defaults_and_the_shape_of_the_map(spec, steps, guidance):
    request = parse_input({"prompt": "a bench", "control_image": PICTURE}, spec)
    assert (request.num_inference_steps, request.guidance) == (steps, guidance)
    assert (request.width, request.height) == (512, 384)
    steering = OF_CONTROLNET[1:]
    assert not_taken(spec) == ("image", "mask", "strength", *steering, "image_prompt", "image_prompt_scale")
    assert not {*steering} & request.to_input().keys()
    wide = parse_input({"prompt": "a bench", "control_image": PICTURE, "width": 1024}, spec)
    assert (wide.width, wide.height) == (1024, 768)


def test_every_input_is_a_field_of_the_request_and_every_other_name_is_free():
    names = [row.name for row in INPUTS]
    assert {*names} <= {field.name for field in dataclasses.fields(GenerationRequest)}
    others = [alias for row in INPUTS for alias in row.aliases]
    assert len({*names, *others}) == len(names) + len(others)
