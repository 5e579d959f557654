"""Jobs: their queue, their states, and what they send before the end."""
