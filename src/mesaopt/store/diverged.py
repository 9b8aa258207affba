"""Trainings that diverged: what they left in their folders of checkpoints (`training/run_folder.py` writes it)."""

import json
from collections.abc import Mapping
from pathlib import Path

FILE = "diverged.json"


def has_diverged(folder: Path, identity: Mapping[str, str]) -> bool:
    """Whether the record in a seed's folder of checkpoints is of the training with this `identity` (spec and code).

    A record of any other training, and one that cannot be read, says nothing: who trains forgets the one and names the other.
    """
    try:
        content = json.loads((folder / FILE).read_text())
        return dict(content["identity"]) == dict(identity)
    except (OSError, ValueError, KeyError, TypeError):
        return False
