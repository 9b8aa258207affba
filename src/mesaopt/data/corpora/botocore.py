"""Corpus `botocore`: manuals of some 400 web services, 31 MB, from the package of that name (Apache-2.0).

The `documentation` strings of `botocore/data/SERVICE/VERSION/*.json.gz`, a document a file. A service has several versions, which
repeat each other: a family is a service.
"""

import gzip
import json
import zipfile
from collections.abc import Iterator
from pathlib import Path

from mesaopt.data.corpus import Corpus, Document, Once, joined, strings_under
from mesaopt.errors import InputError
from mesaopt.spec.text import Text

FOLDER = "botocore/data/"


def documents(text: Text, package: Path | None) -> Iterator[Document]:
    """In the order of their names."""
    new = Once()
    with zipfile.ZipFile(str(package)) as archive:
        for name in sorted(archive.namelist()):
            if not name.startswith(FOLDER) or not name.endswith(".json.gz"):
                continue
            try:
                content = json.loads(gzip.decompress(archive.read(name)))
            except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
                raise InputError(f"{package}: {name}: damaged ({error})") from None
            if found := joined(strings_under("documentation", content), new):
                yield Document(name.removeprefix(FOLDER).partition("/")[0], found)


CORPUS = Corpus(documents, package="botocore")
