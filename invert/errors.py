"""The errors that users cause or can mend: one clear sentence each, shown without a traceback."""


class InputError(ValueError):
    """Bad input: the sentence names the file or option and says what to do (exit status 2)."""
