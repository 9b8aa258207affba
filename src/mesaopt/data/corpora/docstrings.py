"""Corpus `docstrings`: what installed packages say of their functions (BSD and similar licences): a text that is always at hand.

Read from their source files as text; nothing is imported. The packages are pinned, so the text is that of the pins. A family is
the folder of a file.
"""

import ast
import inspect
import warnings
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from mesaopt.data.corpus import SHORTEST, Corpus, Document, Once
from mesaopt.errors import InputError
from mesaopt.spec.text import Text

PACKAGES = ("numpy", "pandas", "matplotlib")
_DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def documents(text: Text, package: Path | None) -> Iterator[Document]:
    """A document a source file, in the order of their names; tests of the packages are left out."""
    new = Once()
    for name in PACKAGES:
        for place, path in sorted(_sources(name)):
            found = [doc for doc in _docstrings(path) if len(doc) >= SHORTEST and new(doc)]
            if found:
                yield Document(place.rpartition("/")[0], "\n\n".join(found))


def _sources(name: str) -> Iterator[tuple[str, Path]]:
    try:
        listed = distribution(name).files or []
    except PackageNotFoundError:
        raise InputError(f"corpus docstrings: the package {name} is not installed") from None
    for file in listed:
        if file.suffix == ".py" and "tests" not in file.parts:
            yield file.as_posix(), Path(str(file.locate()))


def _docstrings(path: Path) -> list[str]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the packages' own escapes
            tree = ast.parse(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, SyntaxError) as error:
        raise InputError(f"{path}: not readable Python ({error})") from None
    nodes = (node for node in ast.walk(tree) if isinstance(node, _DOCUMENTED))
    return [inspect.cleandoc(doc) for node in nodes if (doc := ast.get_docstring(node, clean=False))]


CORPUS = Corpus(documents)
