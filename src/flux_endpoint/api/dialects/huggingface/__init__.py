"""The text-to-image task of Hugging Face's inference clients."""
