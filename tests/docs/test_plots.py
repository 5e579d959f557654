"""Plots and tables in the docs show the numbers that are committed beside them."""

import pytest

from benchmarks import capacity_plot
from benchmarks.plots import IMAGES, PAGE, PLOTS, TABLES


@pytest.mark.parametrize("name", PLOTS)
def test_a_plot_is_drawn_from_its_results(name):
    assert (IMAGES / name).read_text() == PLOTS[name]()
    assert f"../images/{name}" in PAGE.read_text()


@pytest.mark.parametrize("name", TABLES)
def test_a_table_tells_its_results(name):
    assert TABLES[name]() in PAGE.read_text()


def test_the_simulated_days_are_drawn_from_their_results():
    assert capacity_plot.PLOT.read_text() == capacity_plot.capacity_plot()
    assert capacity_plot.capacity_tables() in capacity_plot.PAGE.read_text()
