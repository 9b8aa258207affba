"""Results of former versions, put where this one looks for them."""

import os
from contextlib import suppress
from pathlib import Path


def move_records(results: Path) -> None:
    """Records of figures lay beside their tables in results/{scale}/tables/, until others scanned that folder as a whole.

    A record that is there already stays, and so does what may not be moved: it is as if it were not there.
    """
    for old in sorted((results / "tables").rglob("*.json")):
        new = results / "records" / old.relative_to(results / "tables")
        if not new.exists():
            with suppress(OSError):
                new.parent.mkdir(parents=True, exist_ok=True)
                os.replace(old, new)
