"""What files of weights say of themselves, by plain reading: gateways and workers both know it."""
