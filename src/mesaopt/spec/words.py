"""Words of a spec that are modules: `layers: [mesa]` is models/layers/mesa.py, `kind: linear` is data/tasks/linear.py.

The closed list of such words is the folder. Nobody else has a list of them, or asks for one of them by name.
"""

import functools
from importlib import import_module
from pathlib import Path
from types import ModuleType

from mesaopt.errors import InputError, unknown

PACKAGE = "mesaopt"
SOURCES = Path(__file__).resolve().parents[1]
#: what a word means -> the folder of its modules
FOLDERS = {
    "task kind": "data/tasks",
    "layer": "models/layers",
    "objective": "models/objectives",
    "corpus": "data/corpora",
    "tokeniser": "data/tokenisers",
}


@functools.cache
def words(meaning: str) -> tuple[str, ...]:
    """The words that may stand for a `meaning` (a key of `FOLDERS`), in alphabetical order."""
    files = (SOURCES / FOLDERS[meaning]).glob("*.py")
    return tuple(sorted(path.stem for path in files if not path.stem.startswith("_")))


def require_word(meaning: str, word: str) -> None:
    """Raises `InputError` in one line, with the nearest that exists, when the folder has no such module."""
    if word not in words(meaning):
        raise InputError(unknown(word, meaning, list(words(meaning))))


def module_name(meaning: str, word: str) -> str:
    """The module's dotted name."""
    return ".".join([PACKAGE, *Path(FOLDERS[meaning]).parts, word])


def module(meaning: str, word: str) -> ModuleType:
    """The module itself; raises `InputError` when there is none."""
    require_word(meaning, word)
    return import_module(module_name(meaning, word))
