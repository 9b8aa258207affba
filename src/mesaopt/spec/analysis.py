"""Settings of analyses: what is read out of trained models, and how much of it (PAPER section 6)."""

from dataclasses import dataclass

from mesaopt.spec.json import Spec, require


@dataclass(frozen=True)
class Evaluate(Spec):
    """Loss by position: the shared test batches beside the seed's own sequences."""

    test_batches: int = 5
    test_batch: int = 256

    def __post_init__(self) -> None:
        require(self.test_batches >= 1 and self.test_batch >= 1, "test_batches and test_batch must be at least 1")


@dataclass(frozen=True)
class Probe(Spec):
    """Linear probes: `in_sample` sequences are fitted and scored in the published way; the target `preconditioned_input` is made
    with what the algorithm `preconditioner` of the run's task has learned (a name with a task is that of another task);
    `in_context` sequences serve the in-context loss.
    """

    preconditioner: str = "proposition2"
    in_sample: int = 256
    in_context: int = 64
    test_batches: int = 5
    test_batch: int = 256

    def __post_init__(self) -> None:
        for key in ("in_sample", "in_context", "test_batches", "test_batch"):
            require(getattr(self, key) >= 1, f"{key} must be at least 1, not {getattr(self, key)}")
