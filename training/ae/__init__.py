"""Stage `ae`: the autoencoder."""
