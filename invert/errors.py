"""The errors that users cause or can mend: one clear sentence each, shown without a traceback.

Sentences name parameters as Python users write them, in backticks: `max_tokens`, `target="raw"`,
`pez.rate`. `invert.cli.flags` turns exactly these into the flags of the command line, so that no
sentence of the library mentions a flag.
"""


class InputError(ValueError):
    """Bad input: the sentence names the file or `parameter` and says what to do (exit status 2)."""


class MissingExtraError(InputError):
    """A package of an optional extra is wanted and not installed; the sentence names the extra."""
