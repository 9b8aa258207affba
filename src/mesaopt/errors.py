"""The one exception that users are meant to see."""


class InputError(ValueError):
    """Something the user gave is wrong: one line that says what, where, and what would be right.

    The command line prints the message without a traceback and exits with status 1.
    """


class DivergenceError(InputError):
    """A training left the sane range; the message names run, step and seed. Never retried."""
