"""`core.catalog` and `core.inputs`: the two models and what they take."""

import dataclasses
from decimal import Decimal

import pytest

from flux_endpoint.core.catalog import CATALOG, FLUX_DEV, FLUX_SCHNELL, ModelFamily
from flux_endpoint.core.generation import GenerationRequest, parse_input
from flux_endpoint.core.input_kinds import RANDOM_SEED
from flux_endpoint.core.inputs import INPUTS, inputs_of


def test_the_catalogue_holds_both_models_under_their_wire_ids():
    assert CATALOG == {
        "black-forest-labs-flux-1-dev": FLUX_DEV,
        "black-forest-labs-flux-1-schnell": FLUX_SCHNELL,
    }
    assert (FLUX_DEV.family, FLUX_SCHNELL.family) == (ModelFamily.DEV, ModelFamily.SCHNELL)


@pytest.mark.parametrize("spec", CATALOG.values(), ids=CATALOG)
def test_every_default_is_an_input_that_is_accepted(spec):
    preset = {row.name: kind.default for row, kind in inputs_of(spec) if kind.default is not None}
    request = parse_input({"prompt": "a fox"} | preset, spec, draw_seed=lambda: RANDOM_SEED)
    # What most jobs do without is not in their rows.
    assert request.to_input().items() <= ({"prompt": "a fox"} | preset).items()
    assert isinstance(spec.price.usd, Decimal)


def test_every_input_is_a_field_of_the_request_and_every_other_name_is_free():
    names = [row.name for row in INPUTS]
    assert {*names} <= {field.name for field in dataclasses.fields(GenerationRequest)}
    others = [alias for row in INPUTS for alias in row.aliases]
    assert len({*names, *others}) == len(names) + len(others)
