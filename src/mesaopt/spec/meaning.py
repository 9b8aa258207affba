"""What is said of a setting in the tables of config/README.md."""

from typing import NamedTuple

from mesaopt.spec.words import FOLDERS


class Meaning(NamedTuple):
    """Of a setting: a phrase for the table, the unit of the number, and the paper's section on it (appendices by their topic)."""

    text: str
    unit: str = ""
    paper: str = ""


def file_in(meaning: str) -> str:
    """Where the words are, not which: another file there changes no page."""
    return f"the name of a file in `src/mesaopt/{FOLDERS[meaning]}`"
