"""The Model Context Protocol: pictures as tools of agents."""
