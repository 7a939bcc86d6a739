"""The pipeline of this repository's model: `python -m pipeline --help`."""
