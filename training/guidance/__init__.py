"""Stage `guidance`: one pass learns to draw what two draw."""
