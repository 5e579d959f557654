"""The world that the model draws: scenes, their captions, and the renderer."""
