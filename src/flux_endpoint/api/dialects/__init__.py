"""The wire formats that clients may speak, a folder each."""
