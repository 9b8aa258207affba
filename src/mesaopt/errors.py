"""What users are meant to see when something is wrong: one exception, and the line for a name that does not exist."""

import difflib


class InputError(ValueError):
    """Something the user gave is wrong: one line that says what, where, and what would be right.

    The command line prints the message without a traceback and exits with status 1.
    """


class DivergenceError(InputError):
    """A training left the sane range; the message names run, step and seed. Never retried."""


def diverged(run: str, seed: int, step: int, loss: float, folder: object) -> DivergenceError:
    """What to raise when the training of a seed has left the sane range; its history is in `folder`."""
    what = f"{run} seed {seed} diverged at step {step}: loss {loss:.4g}"
    return DivergenceError(f"{what}; history kept in {folder}; lower lr or lengthen warmup")


#: of a closed list that a line names in full; of a longer one so many, the rest by their number
MOST_NAMES = 8


def unknown(name: object, kind: str, known: list[str], listed: str = "") -> str:
    """One line for a name that is not in a closed list, with the nearest one that is, or else the first ones of the list.

    `listed` says where all of a long list stand, such as a file of settings.
    """
    near = difflib.get_close_matches(str(name), known, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"one of {_first(known, listed)}"
    return f"unknown {kind} {name!r}: {hint}"


def _first(names: list[str], listed: str) -> str:
    more = len(names) - MOST_NAMES
    if more < 1:
        return ", ".join(names)
    return f"{', '.join(names[:MOST_NAMES])} and {more} more{f' ({listed})' if listed else ''}"
