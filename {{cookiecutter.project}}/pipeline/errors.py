"""The one exception for what the user can put right."""


class InputError(Exception):
    """Bad input: the text names the input, what is wrong with it and what to do. The command line exits with 2."""
