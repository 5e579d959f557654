"""LoRAs: read from their files, kept for the next picture, and applied to one forward pass after another."""
