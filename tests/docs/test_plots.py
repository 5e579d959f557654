"""Plots and tables in the docs show the numbers that are committed beside them."""

import pytest

from benchmarks.plots import IMAGES, PAGE, PLOTS, TABLES


@pytest.mark.parametrize("name", PLOTS)
def test_a_plot_is_drawn_from_its_results(name):
    assert (IMAGES / name).read_text() == PLOTS[name]()
    assert f"../images/{name}" in PAGE.read_text()


@pytest.mark.parametrize("name", TABLES)
def test_a_table_tells_its_results(name):
    assert TABLES[name]() in PAGE.read_text()
