"""The table of cards in the guide is what the planner says."""

from pathlib import Path

from benchmarks.cards import table

GUIDE = Path(__file__).parent.parent.parent / "docs" / "guides" / "real-weights.md"


def test_the_table_of_cards_is_computed() -> None:
    assert table() in GUIDE.read_text()
