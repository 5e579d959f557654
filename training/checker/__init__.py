"""Stage `checker`: what sees whether a picture shows what its caption names."""
