import pytest

from flux_endpoint.core.acceleration import Acceleration
from flux_endpoint.core.activity import PastRun
from flux_endpoint.core.picture_work import size_and_level
from flux_endpoint.service.estimates import expected_ms

PICTURE = {"prompt": "a", "width": 1000, "height": 500, "num_inference_steps": 20, "true_cfg_scale": 2.0}


def test_the_size_of_a_picture_is_its_megapixels_times_steps():
    assert size_and_level(PICTURE) == (10, Acceleration.NONE)
    assert size_and_level(PICTURE | {"negative_prompt": ""}) == (10, Acceleration.NONE)
    assert size_and_level(PICTURE | {"negative_prompt": "fog"}) == (20, Acceleration.NONE)
    # Without a second pass.
    assert size_and_level(PICTURE | {"negative_prompt": "fog", "true_cfg_scale": 1.0}) == (10, Acceleration.NONE)


@pytest.mark.parametrize("change", [{"width": "1000"}, {"height": 0}, {"num_inference_steps": True}, {"width": 10**30}])
def test_the_size_of_anything_else_is_one(change):
    assert size_and_level({}) == (1, Acceleration.NONE)
    assert size_and_level(PICTURE | change) == (1, Acceleration.NONE)


def test_nothing_is_expected_without_history():
    assert expected_ms([], 1) is None


def test_the_runs_most_alike_decide_and_one_slow_run_does_not():
    small = [PastRun(execution_ms=300, megapixel_steps=1)] * 9 + [PastRun(90_000, 1)]
    large = [PastRun(execution_ms=2_000, megapixel_steps=20)] * 12
    assert expected_ms(small + large, 1) == 300
    assert expected_ms(small + large, 2) == 600
    assert expected_ms(small + large, 20) == 2_000
    assert expected_ms(small + large, 40) == 4_000


def test_a_level_is_part_of_what_runs_are_compared_by():
    high = PICTURE | {"acceleration": "high"}
    assert size_and_level(high) == (10, Acceleration.HIGH)
    assert size_and_level(high | {"negative_prompt": "fog"}) == (20, Acceleration.REGULAR)
    assert size_and_level(PICTURE | {"acceleration": "regular"}) == (10, Acceleration.REGULAR)


def test_runs_at_the_same_level_decide_and_others_only_where_there_are_none():
    runs = [PastRun(1_000, 10)] * 20 + [PastRun(300, 10, "high")]
    assert expected_ms(runs, 20, "high") == 600
    assert expected_ms(runs, 20) == 2_000
    assert expected_ms(runs, 20, "regular") == 2_000
