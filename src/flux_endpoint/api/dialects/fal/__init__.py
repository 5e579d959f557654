"""fal's queue and sync routes."""
