"""Settings of analyses: what is read out of trained models, and how much of it (PAPER section 6)."""

from dataclasses import dataclass

from mesaopt.spec.json import Spec, require
from mesaopt.spec.run import Run


class Analysis(Spec):
    """Settings that are for one run."""

    def check(self, run: Run) -> None:
        """Raise `InputError` where the settings do not fit the run, before anything is computed."""


@dataclass(frozen=True)
class Evaluate(Spec):
    """Loss by position: on the seed's own sequences, at least so many (0: those of its file), and on the shared test batches."""

    test_batches: int = 5
    test_batch: int = 256
    sequences: int = 0

    def __post_init__(self) -> None:
        require(self.test_batches >= 1 and self.test_batch >= 1, "test_batches and test_batch must be at least 1")
        require(self.sequences >= 0, f"sequences must not be negative, not {self.sequences}")


@dataclass(frozen=True)
class Probe(Spec):
    """Linear probes: `in_sample` sequences are fitted and scored in the published way; the target `preconditioned_input` is made
    with what the algorithm `preconditioner` of the run's task has learned (a name with a task is that of another task), the
    target `preconditioned_input_published` with what `published_preconditioner` has; `in_context` sequences serve the
    in-context loss, at the `in_context_positions` last positions.
    """

    preconditioner: str = "proposition2"
    published_preconditioner: str = "proposition2-published"
    in_sample: int = 256
    in_context: int = 64
    in_context_positions: int = 10
    test_batches: int = 5
    test_batch: int = 256

    def __post_init__(self) -> None:
        _at_least_one(self, "in_sample", "in_context", "in_context_positions", "test_batches", "test_batch")


@dataclass(frozen=True)
class Tokens(Analysis):
    """Token probes: the last `tokens` elements up to `position` (null: T) are decoded from the stream there after `layer`."""

    layer: int = 1
    position: int | None = None
    tokens: int = 8
    in_sample: int = 256
    test_batches: int = 5
    test_batch: int = 256

    def __post_init__(self) -> None:
        _at_least_one(self, "tokens", "in_sample", "test_batches", "test_batch")
        require(self.layer >= 0, f"layer must not be negative (0 is the input), not {self.layer}")
        require(self.position is None or self.position >= 1, f"position must be at least 1 or null, not {self.position}")

    def position_in(self, run: Run) -> int:
        """The position that is probed."""
        return run.task.context_length if self.position is None else self.position

    def check(self, run: Run) -> None:
        layers, last, position = len(run.model.layers), run.task.context_length, self.position_in(run)
        what = f"{run.name}: token probes"
        require(self.layer <= layers, f"{what} of layer {self.layer}: the model has {layers}")
        require(position <= last, f"{what} at position {position}: the context length is {last}")
        require(self.tokens <= position, f"{what} of {self.tokens} elements: there are {position} up to that position")


@dataclass(frozen=True)
class Samples(Spec):
    """Probes that have no settings of their own: `in_sample` sequences are fitted and scored in the published way."""

    in_sample: int = 256
    test_batches: int = 5
    test_batch: int = 256

    def __post_init__(self) -> None:
        _at_least_one(self, "in_sample", "test_batches", "test_batch")


@dataclass(frozen=True)
class Attention(Spec):
    """Attention maps: means over `sequences` of the seed's own, or as many as there are, and over the shared test batches."""

    sequences: int = 2048
    test_batches: int = 5
    test_batch: int = 256

    def __post_init__(self) -> None:
        _at_least_one(self, "sequences", "test_batches", "test_batch")


@dataclass(frozen=True)
class Sensitivity(Analysis):
    """Sensitivity of the first layer along a training up to step `until`: to the last `tokens` elements one by one, and to the
    earlier ones together; on `sequences` of the seed's own, and on as many of the shared test batches.
    """

    until: int = 2900
    tokens: int = 6
    sequences: int = 64
    test_batches: int = 1

    def __post_init__(self) -> None:
        _at_least_one(self, "tokens", "sequences", "test_batches")
        require(self.until >= 0, f"until must not be negative, not {self.until}")

    def check(self, run: Run) -> None:
        last = run.task.context_length
        require(self.tokens <= last, f"sensitivity to the last {self.tokens} elements: the context length is {last}")


def _at_least_one(settings: Spec, *keys: str) -> None:
    for key in keys:
        require(getattr(settings, key) >= 1, f"{key} must be at least 1, not {getattr(settings, key)}")
