"""The API of A1111's web UI, which its plug-ins and many other programs speak."""
