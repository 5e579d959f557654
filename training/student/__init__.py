"""Stage `student`: the schnell model."""
