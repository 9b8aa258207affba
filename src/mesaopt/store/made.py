"""What results were made from: a small file beside each, which goes where the result goes.

That of `folder/name` is `folder/.name.made.json`; of a figure's table it lies with the table's digest (store/digests.py). Whether
a result is what is asked is decided by it, not by the memory of a program or by dates, so results may be copied and moved.
"""

import dataclasses
import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from mesaopt.store.digests import beside, digest_path
from mesaopt.store.disk import sha256, sync_folder


@dataclasses.dataclass(frozen=True)
class Made:
    """How the result `result` (its path, as the workflow names it) with the content `sha256` was made.

    `command` is what the rule runs, before anything is filled in; `params` are settings, seeds and fingerprints of code, as text;
    `inputs` are files by path with the SHA-256 of their content, None for one without content (a folder); `chain` stands for all
    of this of whatever is behind it (`chain_of`). `started` and `ended` are in seconds since the epoch; `job` is one number for
    all results of a job.
    """

    result: str
    sha256: str | None
    rule: str
    command: str | None
    params: list[str]
    inputs: Mapping[str, str | None]
    chain: str
    started: float | None = None
    ended: float | None = None
    job: int | None = None


def made_path(path: Path) -> Path:
    """Where the record of the result at `path` is kept."""
    return digest_path(path).with_suffix(".made.json")


def write_made(made: Made) -> None:
    """Keep the record of a result beside it. Raises `OSError`."""
    place = made_path(Path(made.result))
    place.parent.mkdir(parents=True, exist_ok=True)
    temporary = place.with_name(f"{place.name}.{os.getpid()}")
    try:
        with open(temporary, "w", encoding="utf-8") as file:
            json.dump(dataclasses.asdict(made), file, indent=1, sort_keys=True)
            file.write("\n")
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, place)
        sync_folder(place.parent)
    finally:
        temporary.unlink(missing_ok=True)


def read_made(path: Path) -> Made | None:
    """The record of the result at `path`; None where there is none, or none that this version understands."""
    try:
        return Made(**json.loads(made_path(path).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def content(path: Path) -> str | None:
    """SHA-256 of the file at `path`, None where there is no file; of tables and weights the digest that they were written with,
    so that nothing large is read.
    """
    try:
        path.stat()
        written = next((place for place in (digest_path(path), beside(path)) if place.exists()), None)
        return sha256(path) if written is None else written.read_text().strip()
    except OSError:
        return None


def chain_of(command: str | None, params: Iterable[Any], inputs: Iterable[str], chains: Iterable[str]) -> str:
    """Digest of how a result is made and of the `chains` of its inputs: equal for results that are asked for with equal settings
    and code all the way up, whether or not the files in between are still there.
    """
    said = [command, list(params), sorted(inputs), sorted(set(chains))]
    return hashlib.sha256(json.dumps(said).encode()).hexdigest()
