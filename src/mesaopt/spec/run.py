"""What a run is: frozen settings of a task, a model and a training (PAPER sections 2-4), in and out of canonical JSON.

A spec says everything that decides the numbers of a run except the seed, and nothing else, so its canonical JSON can serve as
the identity of the run: key order and the spelling of a number (0.1, 1e-1) do not change it, and neither does a setting that is
new: what equals its default is left out. So no default may ever change (a test pins them all).
"""

import dataclasses
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from mesaopt.errors import InputError, unknown

TASKS = ("linear", "contracting", "fixed_teacher")
LAYERS = ("linear", "softmax", "mesa")
TOKENS = ("raw", "constructed", "constructed_bare")
NORMALISATIONS = ("none", "qk", "qv")
#: names of runs and hand-written algorithms become folders below the results, and must not lead anywhere else
TASK_NAME = re.compile(r"[a-z0-9_-]+")
NAME = re.compile(rf"{TASK_NAME.pattern}/[a-z0-9-]+")

#: a spec (not `Self`: the checker of annotations in tests sees methods one by one)
S = TypeVar("S", bound="_Json")


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise InputError(message)


def _require_name(name: str) -> None:
    _require(bool(NAME.fullmatch(name)), f"name {name!r}: must be task/name of lower-case letters, digits, - (and _ in the task)")


class _Json:
    """Canonical JSON for the frozen dataclasses below."""

    def to_dict(self) -> dict[str, Any]:
        """Every setting, for files that are read by people and by later versions."""
        return dataclasses.asdict(self)  # type: ignore[call-overload]

    def to_json(self) -> str:
        """The identity: what differs from the defaults."""
        return json.dumps(self._said(), sort_keys=True, separators=(",", ":"))

    def _said(self) -> dict[str, Any]:
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}  # type: ignore[arg-type]
        said = {name: value for name, value in fields.items() if value != self._default(name)}
        return {name: value._said() if isinstance(value, _Json) else value for name, value in said.items()}

    def _default(self, name: str) -> Any:
        """The default of a setting; `MISSING`, which equals nothing, where it must be given."""
        return next(field.default for field in dataclasses.fields(self) if field.name == name)  # type: ignore[arg-type]

    @classmethod
    def from_dict(cls: type[S], values: Mapping[str, Any]) -> S:
        """Build from a mapping; unknown, missing or wrongly typed entries raise `InputError`."""
        return _build(cls, values)

    @classmethod
    def from_json(cls: type[S], text: str) -> S:
        try:
            values = json.loads(text)
        except json.JSONDecodeError as error:
            raise InputError(f"not a {cls.__name__.lower()} spec: {error}") from None
        return cls.from_dict(values)


@dataclass(frozen=True)
class Task(_Json):
    """A sequence generator (PAPER section 2): `kind` says which one, by default the one that the task is named after.

    Noise is a standard deviation; null is that of the kind.
    """

    name: str
    n_state: int = 10
    n_obs: int = 10
    context_length: int = 50
    kind: str = ""
    state_noise: float | None = None
    obs_noise: float | None = None

    def __post_init__(self) -> None:
        _require(bool(TASK_NAME.fullmatch(self.name)), f"task name {self.name!r}: must be lower-case letters, digits, _ and -")
        if not self.kind:
            object.__setattr__(self, "kind", self.name)
        _require(self.kind in TASKS, f"task {self.name}: {unknown(self.kind, 'kind', list(TASKS))}")
        for key in ("state_noise", "obs_noise"):
            noise = getattr(self, key)
            _require(noise is None or noise >= 0, f"task {self.name}: {key} must not be negative, not {noise}")
        for key in ("n_state", "n_obs", "context_length"):
            _require(getattr(self, key) >= 1, f"task {self.name}: {key} must be at least 1, not {getattr(self, key)}")
        _require(self.n_obs <= self.n_state, f"task {self.name}: n_obs {self.n_obs} exceeds n_state {self.n_state}")

    def _default(self, name: str) -> Any:
        return self.name if name == "kind" else super()._default(name)


@dataclass(frozen=True)
class Model(_Json):
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
        _require(len(self.layers) >= 1, "a model needs at least one layer")
        for layer in self.layers:
            _require(layer in LAYERS, f"unknown layer {layer!r}: one of {', '.join(LAYERS)}")
        _require(self.tokens in TOKENS, f"unknown tokens {self.tokens!r}: one of {', '.join(TOKENS)}")
        _require(self.normalise in NORMALISATIONS, f"unknown normalise {self.normalise!r}: one of {', '.join(NORMALISATIONS)}")
        for key in ("d_model", "n_heads", "d_head"):
            _require(getattr(self, key) >= 1, f"{key} must be at least 1, not {getattr(self, key)}")
        for key in ("d_pe", "d_mlp"):
            _require(getattr(self, key) >= 0, f"{key} must not be negative, not {getattr(self, key)}")
        _require(self.init_std > 0, f"init_std must be positive, not {self.init_std}")
        _require(self.clip is None or self.clip > 0, f"clip must be positive or null, not {self.clip}")
        _require(self.d_pe == 0 or self.tokens == "raw", "positional encoding (d_pe) is for raw tokens only")


@dataclass(frozen=True)
class Training(_Json):
    """Online training (PAPER section 4). `final_lr` null means a constant rate after the warm-up."""

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

    def __post_init__(self) -> None:
        for key in ("steps", "batch", "test_every", "test_batches", "test_batch"):
            _require(getattr(self, key) >= 1, f"{key} must be at least 1, not {getattr(self, key)}")
        for key in ("warmup", "snapshot_every", "weight_decay"):
            _require(getattr(self, key) >= 0, f"{key} must not be negative, not {getattr(self, key)}")
        _require(self.lr > 0, f"lr must be positive, not {self.lr}")
        _require(self.final_lr is None or self.final_lr > 0, f"final_lr must be positive or null, not {self.final_lr}")
        _require(self.horizon is None or self.horizon > self.warmup, f"horizon {self.horizon} must exceed warmup {self.warmup}")
        _require(self.stream.isidentifier(), f"stream must be a plain name, not {self.stream!r}")
        _require(self.stream != "test", "stream must not be test: those are the sequences of the test loss")


@dataclass(frozen=True)
class Run(_Json):
    """One training run without its seed; `name` is its folder, such as `linear/lsa-d6`."""

    name: str
    task: Task
    model: Model
    training: Training

    def __post_init__(self) -> None:
        _require_name(self.name)
        width = self.task.n_obs if self.model.tokens == "raw" else 4 * self.task.n_obs
        _require(
            self.model.tokens == "raw" or self.model.d_model == width,
            f"{self.name}: constructed tokens have 4 n_obs = {width} channels, d_model is {self.model.d_model}",
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


@dataclass(frozen=True)
class Theory(_Json):
    """Learning of a hand-written algorithm's parameters on the task's own next-token loss (PAPER section 5).

    `algorithm` is `gd` (eta line-searched, then eta and w_0 learned together) or `chebyshev` (`n_steps` pairs alpha, beta).
    `form` and `lag` choose the textbook scheme or the published variant (PAPER 9.12 and 9.15).
    """

    name: str
    task: Task
    algorithm: str
    steps: int
    lr: float
    batch: int = 256
    n_steps: int = 0
    inverse_lam: float = 0.001
    form: str = "textbook"
    lag: int = 0
    weight_decay: float = 0.05
    warmup: int = 500
    horizon: int | None = None
    final_lr: float | None = 1e-5

    def __post_init__(self) -> None:
        _require_name(self.name)
        _require(self.algorithm in ("gd", "chebyshev"), f"{self.name}: unknown algorithm {self.algorithm!r}: gd or chebyshev")
        _require(self.form in ("textbook", "published"), f"{self.name}: unknown form {self.form!r}: textbook or published")
        _require(self.lag in (0, 1), f"{self.name}: lag must be 0 or 1, not {self.lag}")
        _require(self.steps >= 1 and self.batch >= 1, f"{self.name}: steps and batch must be at least 1")
        _require(self.lr > 0 and self.inverse_lam > 0, f"{self.name}: lr and inverse_lam must be positive")
        _require((self.n_steps >= 1) == (self.algorithm == "chebyshev"), f"{self.name}: n_steps is for chebyshev, at least 1")


_NUMBERS: dict[Any, tuple[type, ...]] = {int: (int,), float: (int, float), str: (str,)}


def _build(cls: type, values: Any) -> Any:
    label = cls.__name__.lower()
    _require(isinstance(values, Mapping), f"a {label} spec must be a mapping, not {type(values).__name__}")
    fields = {field.name: field for field in dataclasses.fields(cls)}
    for key in values:
        _require(key in fields, f"unknown key {key!r} in a {label} spec: one of {', '.join(fields)}")
    for key, field in fields.items():
        _require(key in values or field.default is not dataclasses.MISSING, f"a {label} spec needs {key!r}")
    return cls(**{key: _convert(label, key, fields[key].type, value) for key, value in values.items()})


def _convert(label: str, key: str, kind: Any, value: Any) -> Any:
    if kind == tuple[str, ...]:
        _require(
            isinstance(value, list | tuple) and all(isinstance(v, str) for v in value), f"{label}: {key} must be a list of names"
        )
        return tuple(value)
    if isinstance(kind, type) and dataclasses.is_dataclass(kind):
        return _build(kind, value)
    options = getattr(kind, "__args__", (kind,))
    if value is None and type(None) in options:
        return None
    base = next(option for option in options if option is not type(None))
    good = isinstance(value, _NUMBERS[base]) and not isinstance(value, bool)
    _require(good, f"{label}: {key} must be {base.__name__}, not {value!r}")
    return base(value)
