"""Plots in the docs show the numbers that are committed beside them."""

from benchmarks.plots import PAGE, PLOT, fidelity_table, speed_levels


def test_the_speed_levels_are_drawn_from_their_results():
    assert PLOT.read_text() == speed_levels()


def test_the_table_of_fidelity_tells_its_results():
    assert fidelity_table() in PAGE.read_text()
