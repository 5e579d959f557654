"""Make the embedded demo model from nothing: pictures, autoencoder, text encoders, transformer."""
