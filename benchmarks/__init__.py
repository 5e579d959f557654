"""One script per claim; README.md tells how to repeat them."""
