"""Stage `text`: tokenizers and the two text encoders."""
