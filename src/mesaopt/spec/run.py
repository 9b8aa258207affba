"""What a run is: frozen settings of a task, a model and a training (PAPER sections 2-4), in and out of canonical JSON.

A spec says everything that decides the numbers of a run except the seed, and nothing else, so its canonical JSON can serve as
the identity of the run: key order and the spelling of a number (0.1, 1e-1) do not change it, and neither does a setting that is
new: what equals its default is left out. So no default may ever change (a test pins them all).
"""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mesaopt.errors import InputError
from mesaopt.spec.json import TASK_NAME, Spec, require, require_name
from mesaopt.spec.words import module_name, require_word

TOKENS = ("raw", "constructed", "constructed_bare")
NORMALISATIONS = ("none", "qk", "qv")
#: of training batches; modules that draw by others than the first count for the runs that ask for them
GENERATORS = {"pcg64": (), "philox": ("mesaopt.data.counted",)}


@dataclass(frozen=True)
class Task(Spec):
    """A sequence generator (PAPER section 2): `kind` says which one, by default the one that the task is named after.

    Noise is a standard deviation; null is that of the kind. `teacher` is the number of the one system of kind `other_teacher`.
    """

    name: str
    n_state: int = 10
    n_obs: int = 10
    context_length: int = 50
    kind: str = ""
    state_noise: float | None = None
    obs_noise: float | None = None
    teacher: int = 0

    def __post_init__(self) -> None:
        require(bool(TASK_NAME.fullmatch(self.name)), f"task name {self.name!r}: must be lower-case letters, digits, _ and -")
        if not self.kind:
            object.__setattr__(self, "kind", self.name)
        require_word("task kind", self.kind)
        for key in ("state_noise", "obs_noise"):
            noise = getattr(self, key)
            require(noise is None or noise >= 0, f"task {self.name}: {key} must not be negative, not {noise}")
        for key in ("n_state", "n_obs", "context_length"):
            require(getattr(self, key) >= 1, f"task {self.name}: {key} must be at least 1, not {getattr(self, key)}")
        require(self.teacher >= 0, f"task {self.name}: teacher must not be negative, not {self.teacher}")
        has_teacher = self.kind == "other_teacher"
        require(has_teacher or not self.teacher, f"task {self.name}: teacher is for kind other_teacher, not {self.kind}")
        require(self.n_obs <= self.n_state, f"task {self.name}: n_obs {self.n_obs} exceeds n_state {self.n_state}")

    def _default(self, name: str) -> Any:
        return self.name if name == "kind" else super()._default(name)

    def modules(self) -> tuple[str, ...]:
        """Modules that no import names: the words of the spec do."""
        return (module_name("task kind", self.kind),)


@dataclass(frozen=True)
class Model(Spec):
    """A Transformer (PAPER section 3): one entry of `layers` per attention layer, no biases anywhere."""

    layers: tuple[str, ...]
    tokens: str
    d_model: int
    n_heads: int
    d_head: int
    init_std: float
    clip: float | None = None
    d_pe: int = 0
    d_mlp: int = 0
    normalise: str = "none"

    def __post_init__(self) -> None:
        require(len(self.layers) >= 1, "a model needs at least one layer")
        for layer in self.layers:
            require_word("layer", layer)
        require(self.tokens in TOKENS, f"unknown tokens {self.tokens!r}: one of {', '.join(TOKENS)}")
        require(self.normalise in NORMALISATIONS, f"unknown normalise {self.normalise!r}: one of {', '.join(NORMALISATIONS)}")
        for key in ("d_model", "n_heads", "d_head"):
            require(getattr(self, key) >= 1, f"{key} must be at least 1, not {getattr(self, key)}")
        for key in ("d_pe", "d_mlp"):
            require(getattr(self, key) >= 0, f"{key} must not be negative, not {getattr(self, key)}")
        require(self.init_std > 0, f"init_std must be positive, not {self.init_std}")
        require(self.clip is None or self.clip > 0, f"clip must be positive or null, not {self.clip}")
        require(self.d_pe == 0 or self.tokens == "raw", "positional encoding (d_pe) is for raw tokens only")


@dataclass(frozen=True)
class Training(Spec):
    """Online training (PAPER section 4). `final_lr` null means a constant rate after the warm-up. Weights are kept of the
    first and of the last step, and every `snapshot_every` steps (0: no others) up to step `snapshot_until` (0: to the end).
    `generator` draws the batches: pcg64 (NumPy's, on the CPU), or philox, by which a GPU draws them itself.
    """

    lr: float
    steps: int
    batch: int = 256
    weight_decay: float = 0.1
    warmup: int = 0
    horizon: int | None = None
    final_lr: float | None = None
    test_every: int = 100
    test_batches: int = 10
    test_batch: int = 256
    stream: str = "train"
    snapshot_every: int = 0
    objective: str = "squared_error"
    snapshot_until: int = 0
    generator: str = "pcg64"

    def __post_init__(self) -> None:
        for key in ("steps", "batch", "test_every", "test_batches", "test_batch"):
            require(getattr(self, key) >= 1, f"{key} must be at least 1, not {getattr(self, key)}")
        for key in ("warmup", "snapshot_every", "snapshot_until", "weight_decay"):
            require(getattr(self, key) >= 0, f"{key} must not be negative, not {getattr(self, key)}")
        require(self.lr > 0, f"lr must be positive, not {self.lr}")
        require(self.final_lr is None or self.final_lr > 0, f"final_lr must be positive or null, not {self.final_lr}")
        require(self.horizon is None or self.horizon > self.warmup, f"horizon {self.horizon} must exceed warmup {self.warmup}")
        require(self.stream.isidentifier(), f"stream must be a plain name, not {self.stream!r}")
        require_word("objective", self.objective)
        require(self.generator in GENERATORS, f"unknown generator {self.generator!r}: one of {', '.join(GENERATORS)}")
        require(self.stream != "test", "stream must not be test: those are the sequences of the test loss")

    def snapshot_at(self, step: int) -> bool:
        """Whether the weights of this step are kept."""
        due = self.snapshot_every and step % self.snapshot_every == 0 and step <= (self.snapshot_until or self.steps)
        return step in (0, self.steps) or bool(due)


@dataclass(frozen=True)
class Run(Spec):
    """One training run without its seed; `name` is its folder, such as `linear/lsa-d6`."""

    name: str
    task: Task
    model: Model
    training: Training

    def __post_init__(self) -> None:
        require_name(self.name)
        width = self.task.n_obs if self.model.tokens == "raw" else 4 * self.task.n_obs
        require(
            self.model.tokens == "raw" or self.model.d_model == width,
            f"{self.name}: constructed tokens have 4 n_obs = {width} channels, d_model is {self.model.d_model}",
        )

    def modules(self) -> tuple[str, ...]:
        """Modules that no import names: those of the task, the layers and the objective."""
        layers = (module_name("layer", layer) for layer in dict.fromkeys(self.model.layers))
        return (
            *self.task.modules(),
            *layers,
            module_name("objective", self.training.objective),
            *GENERATORS[self.training.generator],
        )


def read_spec(path: Path) -> tuple[Run, int]:
    """Settings and seed of a training, from its spec.json; raises `InputError` when it is missing or damaged."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        seed = values.pop("seed")
        return Run.from_dict(values), seed
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; it belongs beside the weights of a training") from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path}: not the spec of a training ({error})") from None


def read_run(weights: str | os.PathLike[str]) -> tuple[Run, int]:
    """Spec and seed of a training, from the spec.json beside its weights; raises `InputError` when it is missing or damaged."""
    return read_spec(Path(weights).parent / "spec.json")
