"""Stage `encode`: pictures become latents."""
