"""The pipeline of this repository's model: `python -m pipeline --help`."""


class InputError(Exception):
    """Bad input: the text names the input, what is wrong with it and what to do. The command line exits with 2."""
