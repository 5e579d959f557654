import pytest

from flux_endpoint.core.activity import PastRun
from flux_endpoint.core.picture_work import megapixel_steps
from flux_endpoint.service.estimates import expected_ms

PICTURE = {"prompt": "a", "width": 1000, "height": 500, "num_inference_steps": 20, "true_cfg_scale": 2.0}


def test_the_size_of_a_picture_is_its_megapixels_times_steps():
    assert megapixel_steps(PICTURE) == 10
    assert megapixel_steps(PICTURE | {"negative_prompt": ""}) == 10
    assert megapixel_steps(PICTURE | {"negative_prompt": "fog"}) == 20
    # Without a second pass.
    assert megapixel_steps(PICTURE | {"negative_prompt": "fog", "true_cfg_scale": 1.0}) == 10


@pytest.mark.parametrize("change", [{"width": "1000"}, {"height": 0}, {"num_inference_steps": True}, {"width": 10**30}])
def test_the_size_of_anything_else_is_one(change):
    assert megapixel_steps({}) == 1
    assert megapixel_steps(PICTURE | change) == 1


def test_nothing_is_expected_without_history():
    assert expected_ms([], 1) is None


def test_the_runs_most_alike_decide_and_one_slow_run_does_not():
    small = [PastRun(execution_ms=300, megapixel_steps=1)] * 9 + [PastRun(90_000, 1)]
    large = [PastRun(execution_ms=2_000, megapixel_steps=20)] * 12
    assert expected_ms(small + large, 1) == 300
    assert expected_ms(small + large, 2) == 600
    assert expected_ms(small + large, 20) == 2_000
    assert expected_ms(small + large, 40) == 4_000
