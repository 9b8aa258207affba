"""All that a training carries from one step to the next, in and out of a checkpoint."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from mesaopt.models.transformer import Transformer, initialise
from mesaopt.spec.run import Run
from mesaopt.training.optimizer import AdamW


@dataclass(frozen=True)
class Record:
    """One row of the history for every stacked seed; `train` is the loss of the step before, None at step 0."""

    step: int
    train: list[float] | None
    test: list[float]


@dataclass
class TrainingState:
    """State after `step` updates of all stacked seeds. `snapshots` holds stacked weights by step, on the CPU."""

    model: Transformer
    optimizer: AdamW
    step: int = 0
    train_losses: Tensor | None = None
    history: list[Record] = field(default_factory=list)
    snapshots: dict[int, dict[str, Tensor]] = field(default_factory=dict)

    @classmethod
    def initial(cls, run: Run, seeds: Sequence[int], device: str) -> "TrainingState":
        """Step 0: freshly drawn weights, one member of the pack per seed."""
        model = initialise(run.model, run.task.n_obs, seeds).to(device)
        return cls(model, AdamW(model.parameters(), run.training.weight_decay))

    def take_snapshot(self) -> None:
        self.snapshots[self.step] = {name: p.detach().cpu().clone() for name, p in self.model.named_parameters()}

    def to_checkpoint(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """What JSON can hold, and tensors."""
        values = {
            "step": self.step,
            "history": [[record.step, record.train, record.test] for record in self.history],
        }
        tensors = self.optimizer.state()
        for step, snapshot in self.snapshots.items():
            tensors |= {f"snapshot/{step}/{name}": value for name, value in snapshot.items()}
        if self.train_losses is not None:
            tensors["train_losses"] = self.train_losses
        return values, tensors

    def restore(self, values: dict[str, Any], tensors: dict[str, Tensor]) -> None:
        """Become the state that `to_checkpoint` was called on, bit for bit."""
        self.step, self.train_losses = values["step"], tensors.get("train_losses")
        self.history = [Record(*row) for row in values["history"]]
        self.optimizer.restore(tensors)
        self.snapshots = {}
        for key, value in tensors.items():
            if key.startswith("snapshot/"):
                _, step, name = key.split("/")
                self.snapshots.setdefault(int(step), {})[name] = value
