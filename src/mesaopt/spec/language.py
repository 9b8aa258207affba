"""What a language run is: frozen settings of a text, a model and a training (paper, appendix on language modelling).

As runs on dynamical systems are (`spec.run`): the canonical JSON is the identity, and says what differs from the defaults. Where
the paper does not say something, it is a setting, and the default is our reading.
"""

import json
import os
from dataclasses import dataclass
from pathlib import Path

from mesaopt.errors import InputError
from mesaopt.spec.json import Spec, require, require_name
from mesaopt.spec.run import Model
from mesaopt.spec.text import Text
from mesaopt.spec.words import module_name, require_word

#: what a setting may be, by its name
CHOICES = {
    "key_shift": ("none", "zero", "self"),
    "normalise": ("after", "before", "none"),
    "positions": ("sinusoidal", "learned", "none"),
    "output": ("untied", "tied"),
    "activation": ("relu", "gelu"),
    "biases": ("all", "none"),
    "decay": ("matrices", "all"),
}


@dataclass(frozen=True)
class LanguageModel(Spec):
    """A Transformer like GPT-2: layer normalisation before every attention layer and MLP, biases, an output embedding.

    Token vectors are multiplied by `embedding_scale` sqrt(d_model), positions by `position_scale`. Layers other than softmax map
    queries and keys by DPFP(`nu`) and divide them by their norm, of which `guard` is the least. With a `key_shift` the keys of
    the first layer are those of the token before; the first token's own is that of a zero token, or (`self`) its own.
    """

    layers: tuple[str, ...]
    d_model: int
    n_heads: int
    d_head: int
    d_mlp: int = 0
    nu: int = 3
    key_shift: str = "none"
    normalise: str = "after"
    guard: float = 1e-6
    positions: str = "sinusoidal"
    embedding_scale: float = 1.0
    position_scale: float = 1.0
    output: str = "untied"
    activation: str = "relu"
    biases: str = "all"
    dropout: float = 0.1
    init_std: float = 0.02

    def __post_init__(self) -> None:
        require(len(self.layers) >= 1, "a model needs at least one layer")
        for layer in self.layers:
            require_word("layer", layer)
        _check_choices(self)
        for key in ("d_model", "n_heads", "d_head"):
            require(getattr(self, key) >= 1, f"{key} must be at least 1, not {getattr(self, key)}")
        for key in ("d_mlp", "nu", "embedding_scale", "position_scale"):
            require(getattr(self, key) >= 0, f"{key} must not be negative, not {getattr(self, key)}")
        require(self.nu < 2 * self.d_head, f"nu must be below 2 d_head = {2 * self.d_head}, not {self.nu}: shifts would repeat")
        require(self.guard > 0 and self.init_std > 0, "guard and init_std must be positive")
        require(0 <= self.dropout < 1, f"dropout must be at least 0 and below 1, not {self.dropout}")

    @property
    def plain(self) -> Model:
        """What kinds of layers are told of a model: its layers and sizes."""
        return Model(self.layers, "raw", self.d_model, self.n_heads, self.d_head, self.init_std)


@dataclass(frozen=True)
class LanguageTraining(Spec):
    """AdamW on random places of the training text; everything that goes with the training's length is counted in tokens.

    The rate rises linearly from `first_lr` to `lr` over `warmup` tokens, then follows half a cosine to `final_lr` over the next
    `horizon` tokens (0: it stays). A step takes `batch` sequences, `micro_batch` of them at a time (0: all), and its gradient is
    scaled down to the norm `clip`. Every `test_every` steps `test_sequences` of the held-back text are scored.
    """

    tokens: int
    batch: int = 256
    micro_batch: int = 0
    lr: float = 3e-4
    first_lr: float = 1e-6
    final_lr: float = 2e-4
    warmup: int = 2_097_152_000
    horizon: int = 300_000_000_000
    beta_1: float = 0.9
    beta_2: float = 0.95
    weight_decay: float = 0.1
    decay: str = "matrices"
    clip: float = 1.0
    test_every: int = 100
    test_sequences: int = 256
    objective: str = "cross_entropy"

    def __post_init__(self) -> None:
        for key in ("tokens", "batch", "test_every", "test_sequences"):
            require(getattr(self, key) >= 1, f"{key} must be at least 1, not {getattr(self, key)}")
        for key in ("micro_batch", "warmup", "horizon", "weight_decay"):
            require(getattr(self, key) >= 0, f"{key} must not be negative, not {getattr(self, key)}")
        for key in ("lr", "first_lr", "final_lr", "clip"):
            require(getattr(self, key) > 0, f"{key} must be positive, not {getattr(self, key)}")
        for key in ("beta_1", "beta_2"):
            require(0 <= getattr(self, key) < 1, f"{key} must be at least 0 and below 1, not {getattr(self, key)}")
        require_word("objective", self.objective)
        _check_choices(self)
        parts = self.micro_batch or self.batch
        require(self.batch % parts == 0, f"micro_batch {parts} must divide batch {self.batch}")


@dataclass(frozen=True)
class LanguageRun(Spec):
    """One training on text without its seed; `name` is its folder, such as `text/softmax`."""

    name: str
    task: Text
    model: LanguageModel
    training: LanguageTraining

    def __post_init__(self) -> None:
        require_name(self.name)

    @property
    def step_tokens(self) -> int:
        """Tokens that a step predicts."""
        return self.training.batch * self.task.context_length

    @property
    def steps(self) -> int:
        """As many as it takes to see all tokens."""
        return -(-self.training.tokens // self.step_tokens)

    def modules(self) -> tuple[str, ...]:
        """Modules that no import names: those of the text, the layers and the objective."""
        layers = (module_name("layer", layer) for layer in dict.fromkeys(self.model.layers))
        return (*self.task.modules(), *layers, module_name("objective", self.training.objective))


def _check_choices(spec: Spec) -> None:
    for key, known in CHOICES.items():
        given = getattr(spec, key, known[0])
        require(given in known, f"unknown {key} {given!r}: one of {', '.join(known)}")


def read_language_run(weights: str | os.PathLike[str]) -> tuple[LanguageRun, int]:
    """Spec and seed of a training on text, from the spec.json beside its weights; raises `InputError` for any other."""
    path = Path(weights).parent / "spec.json"
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        seed = values.pop("seed")
        return LanguageRun.from_dict(values), seed
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; it belongs beside the weights of a training") from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path}: not the spec of a training on text ({error})") from None


@dataclass(frozen=True)
class LanguageMeasures(Spec):
    """What is measured of a trained language model: on `sequences` of the held-back text, on `repeated` ones of random tokens;
    attention weights as means over `maps` sequences up to `map_length` tokens.
    """

    sequences: int = 1024
    repeated: int = 256
    maps: int = 256
    map_length: int = 64

    def __post_init__(self) -> None:
        for key in ("sequences", "repeated", "maps", "map_length"):
            require(getattr(self, key) >= 1, f"{key} must be at least 1, not {getattr(self, key)}")
