"""A LoRA for the exported model: a style that it does not know, trained on a CPU in minutes."""
