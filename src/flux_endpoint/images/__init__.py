"""Where finished pictures are kept: a local folder or a bucket."""
