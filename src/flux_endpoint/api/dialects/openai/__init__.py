"""The images routes of OpenAI's API, which a great many programs speak."""
