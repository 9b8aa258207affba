"""Corpus `google`: manuals of some 500 web interfaces, 17.6 MB, from the package google-api-python-client (Apache-2.0).

The `description` strings of `googleapiclient/discovery_cache/documents/NAME.VERSION.json`, a document a file; a family is a name.
"""

import json
import zipfile
from collections.abc import Iterator
from pathlib import Path

from mesaopt.data.corpus import Corpus, Document, Once, joined, strings_under
from mesaopt.errors import InputError
from mesaopt.spec.text import Text

FOLDER = "googleapiclient/discovery_cache/documents/"


def documents(text: Text, package: Path | None) -> Iterator[Document]:
    """In the order of their names."""
    new = Once()
    with zipfile.ZipFile(str(package)) as archive:
        for name in sorted(archive.namelist()):
            if not name.startswith(FOLDER) or not name.endswith(".json"):
                continue
            try:
                content = json.loads(archive.read(name))
            except (OSError, ValueError, zipfile.BadZipFile) as error:
                raise InputError(f"{package}: {name}: damaged ({error})") from None
            if found := joined(strings_under("description", content), new):
                yield Document(name.removeprefix(FOLDER).partition(".")[0], found)


CORPUS = Corpus(documents, package="google-api-python-client")
