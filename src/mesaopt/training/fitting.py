"""What fits of a few parameters to a trained model share: their checkpoints, and how their course is told."""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from torch import Tensor

from mesaopt.training.descent import Checkpoints

#: rows of a history, at most
_ROWS = 100


@dataclass(frozen=True)
class Kept:
    """Where checkpoints of one fit lie (None: none are kept), and after how many seconds another one is written."""

    home: Path | None = None
    every: float = 20.0

    def checkpoints(self, name: str, identity: Mapping[str, Any], tensors: Iterable[Tensor]) -> Checkpoints | None:
        """Those in the file `name`, which belong to `identity` and to the contents of `tensors`, such as the model's weights."""
        if self.home is None:
            return None
        digest = hashlib.sha256()
        for tensor in tensors:
            digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
        return Checkpoints(self.home / name, {**identity, "tensors": digest.hexdigest()}, self.every)


ALONE = Kept()


def history(losses: list[float]) -> pd.DataFrame:
    """Columns step and loss: means over the steps up to and including each of at most `_ROWS` steps."""
    every = -(-len(losses) // _ROWS)
    frame = pd.DataFrame({"step": range(1, len(losses) + 1), "loss": losses})
    groups = (frame["step"] - 1) // every
    return frame.groupby(groups).agg({"step": "last", "loss": "mean"}).reset_index(drop=True)
