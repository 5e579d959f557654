"""Stage `evaluate`: scores, contact sheet, and the pictures of the docs."""
