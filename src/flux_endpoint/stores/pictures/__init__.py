"""Pictures on their way from a worker to the image store."""
