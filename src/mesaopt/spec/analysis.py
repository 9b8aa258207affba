"""Settings of analyses: what is read out of trained models, and how much of it (PAPER section 6)."""

from dataclasses import dataclass

from mesaopt.spec.json import Spec, require
from mesaopt.spec.run import Run

#: of linear layers that softmax layers are distilled into
STARTS = ("softmax", "plain")


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


@dataclass(frozen=True)
class Prompts(Analysis):
    """Tuned tokens for few-shot regression on pairs of the task `pairs`: `separators` after every pair are tuned first, then
    `prefix` tokens before all pairs, with these in place and frozen. Adam at a constant rate, `steps` steps each.
    """

    pairs: str = "few-shot"
    separators: int = 1
    prefix: int = 20
    lr: float = 1e-3
    steps: int = 5000
    separator_batch: int = 64
    prefix_batch: int = 128

    def __post_init__(self) -> None:
        _at_least_one(self, "separators", "steps", "separator_batch", "prefix_batch")
        require(self.prefix >= 0, f"prefix must not be negative (0: none is tuned), not {self.prefix}")
        require(self.lr > 0, f"lr must be positive, not {self.lr}")

    def check(self, run: Run) -> None:
        time, least = run.task.context_length, self.prefix + 2 * (2 + self.separators)
        require(least <= time, f"{run.name}: a prompt of two pairs has {least} positions; the context length is {time}")


@dataclass(frozen=True)
class Labels(Spec):
    """Error of labels by the number of pairs before them, on sequences of the task `pairs`. Where the task changes, the first one
    has `first_pairs` pairs in every form of prompt, or as many as fit into `first_tokens` positions (published: 80).
    `inverse_lam` is the regulariser 1/lambda of least squares; beside it stands the best of `search_values` from `search_low` to
    `search_high`, searched on other sequences.
    """

    pairs: str = "few-shot"
    first_pairs: int = 20
    first_tokens: int | None = None
    inverse_lam: float = 0.001
    search_values: int = 20
    search_low: float = 1e-3
    search_high: float = 10.0

    def __post_init__(self) -> None:
        _at_least_one(self, "first_pairs", "search_values")
        require(self.first_tokens is None or self.first_tokens >= 1, f"first_tokens must be positive, not {self.first_tokens}")
        require(self.inverse_lam > 0, f"inverse_lam must be positive, not {self.inverse_lam}")
        low, high = self.search_low, self.search_high
        require(0 < low < high, f"search_low {low} must be positive and below search_high {high}")


@dataclass(frozen=True)
class Distil(Analysis):
    """Softmax layers distilled into linear ones, on fresh sequences, by AdamW with gradients clipped elementwise to [-1, 1].

    Each of `starts` makes a linear layer of its own: `softmax` starts from the softmax layer, W_Q over sqrt(d_head), with W_O by
    least squares on `recorded` sequences; `plain` from N(0, init_std^2), as published.
    """

    starts: tuple[str, ...] = STARTS
    steps: int = 15000
    batch: int = 64
    lr: float = 1e-3
    weight_decay: float = 0.05
    init_std: float = 0.05
    recorded: int = 512

    def __post_init__(self) -> None:
        _at_least_one(self, "steps", "batch", "recorded")
        require(bool(self.starts), "starts must name at least one")
        for start in self.starts:
            require(start in STARTS, f"unknown start {start!r}: one of {', '.join(STARTS)}")
        require(len(set(self.starts)) == len(self.starts), f"starts must differ from each other: {', '.join(self.starts)}")
        require(self.lr > 0 and self.init_std > 0, "lr and init_std must be positive")
        require(self.weight_decay >= 0, f"weight_decay must not be negative, not {self.weight_decay}")

    def check(self, run: Run) -> None:
        require(set(run.model.layers) == {"softmax"}, f"{run.name}: only models of softmax layers alone are distilled")
        plain = run.model.d_mlp == 0 and run.model.normalise == "none"
        require(plain, f"{run.name}: only models without MLPs and norms are distilled")


@dataclass(frozen=True)
class Linearise(Spec):
    """Losses with linear layers in the place of softmax ones, on `test_batches` of `test_batch` fresh sequences."""

    test_batches: int = 10
    test_batch: int = 64

    def __post_init__(self) -> None:
        _at_least_one(self, "test_batches", "test_batch")


def _at_least_one(settings: Spec, *keys: str) -> None:
    for key in keys:
        require(getattr(settings, key) >= 1, f"{key} must be at least 1, not {getattr(settings, key)}")
