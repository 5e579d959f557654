"""Workers and their tokens."""
