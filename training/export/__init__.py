"""Stage `export`: the files of the model."""
