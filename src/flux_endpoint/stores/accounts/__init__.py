"""API keys, what they have been charged, and their budgets."""
