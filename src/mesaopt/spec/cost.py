"""What trainings cost: floating-point operations from their specs, and from those the seconds that devices are expected to take.

Estimates for planning, from rates that were measured once (config/rates.yaml); nothing here decides a result.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mesaopt.errors import InputError
from mesaopt.spec.algorithm import INPUTS, Theory
from mesaopt.spec.analysis import Distil, Prompts
from mesaopt.spec.language import LanguageRun
from mesaopt.spec.run import Run
from mesaopt.spec.yaml_files import check, read_yaml

#: analyses that fit something by gradient descent
FITTED = ("distil", "tune-prompts")
#: the vocabulary of a text that does not say how large it is
_BYTES = 257
#: forward, and backward twice that
_PASSES = 3
#: products with R per position, forwards and backwards, that a mesa-layer of a language model is worth
_CHUNKED = 24
#: what is no attention layer: embedding, readout, MLP
REST = "rest"

_POSITIVE = {"type": "object", "additionalProperties": {"type": "number", "exclusiveMinimum": 0}}
SCHEMA: dict[str, Any] = {
    "type": "object",
    "additionalProperties": False,
    "required": ["recursion", "devices"],
    "properties": {
        "recursion": {"type": "object", "additionalProperties": {"type": "number", "minimum": 0}},
        "devices": {
            "type": "object",
            "minProperties": 1,
            "additionalProperties": {
                "type": "object",
                "additionalProperties": False,
                "required": ["runs_on", "gflops", "step", "learn_step"],
                "properties": {
                    "runs_on": {"enum": ["cpu", "cuda"]},
                    "note": {"type": "string"},
                    "gflops": {**_POSITIVE, "required": ["other"]},
                    "step": {"type": "number", "minimum": 0},
                    "learn_step": {**_POSITIVE, "required": list(INPUTS)},
                },
            },
        },
    },
}


@dataclass(frozen=True)
class Device:
    """What one core, or one card, computes: GFLOP/s by kind of layer (`other` for those that are not named), and milliseconds
    that a step takes besides (drawing its data); `learn_step`: that a step of learning a hand-written algorithm takes, by what it
    reads.
    """

    name: str
    runs_on: str
    gflops: Mapping[str, float]
    step: float
    learn_step: Mapping[str, float]
    note: str = ""

    def seconds(self, run: Run, recursion: Mapping[str, float]) -> float:
        """Expected for one seed of a training, tests and snapshots not counted."""
        by_kind = step_flops(run, recursion)
        of_step = sum(flops / (self.gflops.get(kind, self.gflops["other"]) * 1e9) for kind, flops in by_kind.items())
        return run.training.steps * (of_step + self.step / 1e3)

    def any_run(self, run: Run | LanguageRun, recursion: Mapping[str, float]) -> float:
        """Expected for one seed of a training, on systems or on text."""
        return self.on_text(run) if isinstance(run, LanguageRun) else self.seconds(run, recursion)

    def on_text(self, run: LanguageRun) -> float:
        """Expected for one seed of a training on text; `text` is the rate for that."""
        return run.training.tokens * language_flops(run) / (self.gflops.get("text", self.gflops["other"]) * 1e9)

    def fitting(self, run: Run, settings: Distil | Prompts, recursion: Mapping[str, float]) -> float:
        """Expected for what is fitted beside a trained model; `fit` is the rate for that."""
        return fit_flops(run, settings, recursion) / (self.gflops.get("fit", self.gflops["other"]) * 1e9)

    def learning(self, theory: Theory) -> float:
        """Expected for learning a hand-written algorithm; `learn_step` is that of six steps of preconditioning."""
        step = self.learn_step[theory.input] * (theory.n_steps + 3) / 9
        return theory.steps * step / 1e3 if theory.descends else 0.0


@dataclass(frozen=True)
class Rates:
    """`recursion`: operations of a layer kind's recursion, per position and head, as a multiple of d_head^2."""

    recursion: Mapping[str, float]
    devices: tuple[Device, ...]

    @classmethod
    def read(cls, root: Path) -> "Rates":
        """Of config/rates.yaml below `root`; raises `InputError` in one line for a file that is missing or not as it must be."""
        content = read_yaml(root / "config/rates.yaml")
        check(content, SCHEMA, "rates.yaml")
        devices = (Device(name, **_floats(values)) for name, values in content["devices"].items())
        return cls(_floats(content["recursion"]), tuple(devices))

    def device(self, name: str) -> Device:
        for device in self.devices:
            if device.name == name:
                return device
        raise InputError(f"rates.yaml: no device {name!r}: {', '.join(device.name for device in self.devices)}")


def _floats(values: Any) -> Any:
    """Whole numbers, which YAML tells from others, as floating-point ones, inside mappings too."""
    if isinstance(values, dict):
        return {key: _floats(value) for key, value in values.items()}
    return float(values) if isinstance(values, int) else values


def step_flops(run: Run, recursion: Mapping[str, float]) -> dict[str, float]:
    """Operations of one training step of one seed by kind of layer, and `REST`: a multiplication and an addition are two.

    Attention is counted where it is causal, the backward pass as two forward ones.
    """
    model, time = run.model, run.task.context_length
    width, heads, size = model.d_model, model.n_heads, model.d_head
    layer = 8 * time * width * heads * size + 2 * time * (time + 1) * heads * size  # projections; scores and answers
    sequences = run.training.batch * _PASSES
    flops: dict[str, float] = {}
    for kind in model.layers:
        own = recursion.get(kind, 0.0) * size**2 * time * heads
        flops[kind] = flops.get(kind, 0.0) + sequences * (layer + own)
    ends = 4 * time * width * run.task.n_obs if model.tokens == "raw" else 0
    positions = 4 * time * model.d_pe * heads * size  # into the first queries and keys, the same for all sequences
    flops[REST] = sequences * (ends + len(model.layers) * 4 * time * width * model.d_mlp) + _PASSES * positions
    return flops


def training_flops(run: Run, recursion: Mapping[str, float]) -> float:
    """Operations of a whole training of one seed."""
    return run.training.steps * sum(step_flops(run, recursion).values())


def fit_flops(run: Run, settings: Distil | Prompts, recursion: Mapping[str, float]) -> float:
    """Operations of distilling linear layers, each start's training beside a forward pass of the frozen model; or of tuning
    tokens, the separator first and then the prefix, which needs no gradients of weights.
    """
    of_sequence = sum(step_flops(run, recursion).values()) / run.training.batch
    if isinstance(settings, Distil):
        return settings.steps * settings.batch * of_sequence * (len(settings.starts) + 1 / _PASSES)
    sequences = settings.separator_batch + (settings.prefix_batch if settings.prefix else 0)
    return settings.steps * sequences * of_sequence * (_PASSES - 1) / _PASSES


def language_flops(run: LanguageRun) -> float:
    """Operations per token of a training on text; those of a mesa-layer's chunks count as so many products with R that its speed
    on a CPU is that of the other products.
    """
    model, size = run.model, run.model.n_heads * run.model.d_head
    weights = len(model.layers) * (4 * size + 2 * model.d_mlp) * model.d_model + (run.task.vocabulary or _BYTES) * model.d_model
    keys = max(1, 2 * model.nu) * model.d_head
    attention = len(model.layers) * 2 * run.task.context_length * size
    recursion = model.layers.count("mesa") * model.n_heads * 2.0 * _CHUNKED * keys**2
    return _PASSES * (2 * weights + attention) + recursion


def duration(seconds: float) -> str:
    """In words: 45 s, 12 min, 3 h 20 min."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60} min"


def makespan(jobs: Iterable[float], workers: int) -> float:
    """Seconds until `workers` have done all jobs, the longest first, each by whoever is free."""
    busy = [0.0] * max(workers, 1)
    for seconds in sorted(jobs, reverse=True):
        earliest = min(range(len(busy)), key=busy.__getitem__)
        busy[earliest] += seconds
    return max(busy)


def expectation(
    rates: Rates,
    trainings: Mapping[Run | LanguageRun, int],
    learned: Iterable[Theory],
    cores: int,
    fitted: Iterable[tuple[Run, Distil | Prompts]] = (),
) -> list[str]:
    """A line for every device: what seeds of trainings, what is fitted beside them and what algorithms take there, on `cores`
    cores and one card.

    Seeds of a run share a card; hand-written algorithms are learned on the cores, beside it.
    """
    learned, fitted = list(learned), list(fitted)
    seeds = sum(trainings.values())
    lines = []
    for device in rates.devices:
        by_run = {run: device.any_run(run, rates.recursion) for run in trainings}
        learning = [device.learning(theory) for theory in learned]
        fitting = [device.fitting(run, settings, rates.recursion) for run, settings in fitted]
        if device.runs_on == "cpu":
            jobs = [by_run[run] for run, count in trainings.items() for _ in range(count)]
            taken, where = makespan(jobs + fitting + learning, cores), f"{cores} x {device.name}"
        else:
            card = sum(by_run[run] * count for run, count in trainings.items())
            taken, where = max(card + sum(fitting), makespan(learning, cores)), f"one {device.name}"
        note = f" ({device.note})" if device.note else ""
        fits = f", layers and prompts to fit: {len(fitted)}" if fitted else ""
        lines.append(
            f"{where}: about {duration(taken)}{note}; seeds to train: {seeds}, algorithms to learn: {len(learned)}{fits}"
        )
    return lines
