"""`core.catalog`: the two endpoints and their limits."""

from decimal import Decimal

import pytest

from flux_endpoint.core.catalog import CATALOG, FLUX_DEV, FLUX_SCHNELL, ModelFamily


def test_the_catalogue_holds_both_models_under_their_wire_ids():
    assert CATALOG == {
        "black-forest-labs-flux-1-dev": FLUX_DEV,
        "black-forest-labs-flux-1-schnell": FLUX_SCHNELL,
    }
    assert (FLUX_DEV.family, FLUX_SCHNELL.family) == (ModelFamily.DEV, ModelFamily.SCHNELL)


@pytest.mark.parametrize("spec", CATALOG.values(), ids=CATALOG)
def test_every_default_is_allowed(spec):
    for allowed in (spec.size_px, spec.num_inference_steps):
        assert allowed.minimum <= allowed.default <= allowed.maximum
        assert allowed.default % allowed.multiple_of == 0
    for allowed in (spec.guidance, spec.true_cfg_scale):
        assert allowed.minimum <= allowed.default <= allowed.maximum
    assert isinstance(spec.usd_per_megapixel, Decimal)
