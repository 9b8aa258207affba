"""Learning the parameters of the hand-written algorithms by gradient descent on the task's own next-token loss.

Those that learn are linear combinations of fixed predictions, with coefficients that are polynomials in the few parameters: those
of the powers of A for the Chebyshev iteration; s_t, the gradient step from zero and the share of w_0 in it for GD-1. So the loss
of a batch is a quadratic form in the coefficients (`training.moments`).
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import Parameter

from mesaopt.algorithms.gradient_descent import line_search_eta
from mesaopt.algorithms.learned import from_parameters, read_parameters, searched_parameter
from mesaopt.algorithms.line_search import least_loss
from mesaopt.algorithms.pairs import scores
from mesaopt.algorithms.preconditioning import polynomial, power_predictions
from mesaopt.algorithms.reading import reading_of
from mesaopt.data.sequences import training_batch
from mesaopt.data.tokens import delayed
from mesaopt.errors import InputError
from mesaopt.spec.algorithm import Theory
from mesaopt.store.fingerprint import code_fingerprint
from mesaopt.training.descent import Checkpoints, Settings, descend
from mesaopt.training.moments import CompiledBatches, batches

#: sequences for the line search of eta, drawn beyond those that the learning sees; few sequences carry most of the curvature, so
#: that 2048 leave an error of 3 % in eta, and of 10 % in the loss at the last positions
_LINE_SEARCH = 16384

#: a file below `Options.home`
CHECKPOINT = "checkpoint"


@dataclass(frozen=True)
class Options:
    """How to learn; nothing here may change a result beyond rounding (device, backend) or at all (the rest).

    `checkpoints` is the folder for all algorithms' checkpoints (None: none are kept), `checkpoint_every` in seconds of wall time.
    """

    checkpoints: Path | None = None
    checkpoint_every: float = 20.0
    device: str = "cpu"
    backend: str = "auto"

    def home(self, theory: Theory, seed: int) -> Path | None:
        """The folder of one learning."""
        return None if self.checkpoints is None else self.checkpoints / "theory" / theory.name / f"seed-{seed}"


#: nothing is kept
ALONE = Options()


class Chebyshev:
    """alpha_k = 1 and beta_k = 0 at the start: plain Richardson iteration."""

    def __init__(self, theory: Theory) -> None:
        self.theory, self.reading = theory, reading_of(theory)
        alpha, beta = torch.ones(theory.n_steps).double(), torch.zeros(theory.n_steps).double()
        self.parameters = {"alpha": Parameter(alpha), "beta": Parameter(beta)}

    def basis(self, observations: Tensor) -> Iterable[Tensor]:
        inputs, values = self.reading.inputs(observations), self.reading.values(observations)
        return power_predictions(inputs, self.theory.n_steps, self.theory.inverse_lam, self.theory.lag, values)

    def coefficients(self) -> Tensor:
        return polynomial(self.theory.form, self.parameters["alpha"], self.parameters["beta"])


class Descent:
    """eta line-searched for w_0 = 0 at the start; then both are learned together, unless the form is the published one."""

    def __init__(self, theory: Theory, seed: int) -> None:
        if theory.lag:
            raise InputError(f"{theory.name}: lag is for chebyshev; gradient descent uses all pairs")
        eta = line_search_eta(training_batch(theory.task, [seed], _LINE_SEARCH, "theory", theory.steps)[0])
        self.parameters = {"eta": Parameter(torch.tensor([eta]).double()), "w_0": Parameter(torch.zeros(1).double())}

    def basis(self, inputs: Tensor) -> Iterable[Tensor]:
        visible = scores(inputs, inputs)
        return inputs, visible @ inputs, visible @ delayed(inputs, 1)

    def coefficients(self) -> Tensor:
        eta, w_0 = self.parameters["eta"], self.parameters["w_0"]
        return torch.cat((w_0, eta, -eta * w_0))


def learn(
    theory: Theory, seed: int, scalars: pd.DataFrame | None = None, options: Options = ALONE
) -> tuple[pd.DataFrame, list[float]]:
    """Learn on fresh batches of the stream "theory" with AdamW; returns the table `parameters` and the loss at every step.

    The history is empty where nothing is learned so: least squares; the published form of GD-1, which has w_0 = 0 and only a
    line-searched eta; alpha and beta that are taken from another algorithm's table, `scalars`. What is searched comes
    last. An interrupted learning with checkpoints goes on from the last one.
    Raises `InputError` when the scalars are not those of this algorithm, `DivergenceError` when the loss is no longer finite.
    """
    if (scalars is not None) != bool(theory.scalars):
        wants = f"takes alpha and beta of {theory.scalars}, whose table must" if theory.scalars else "a table of scalars must not"
        raise InputError(f"{theory.name}: {wants} be given (--scalars)")
    values, history = _scalars(theory, seed, scalars, options)
    if theory.search_values:
        values[searched_parameter(theory)] = [_searched(theory, values, seed)]
    elif theory.algorithm == "lsq":
        values["inverse_lam"] = [theory.inverse_lam]
    return _table(values), history


def _scalars(
    theory: Theory, seed: int, taken: pd.DataFrame | None, options: Options
) -> tuple[dict[str, list[float]], list[float]]:
    """Values by parameter, all but 1/lambda, and the loss at every step."""
    if taken is not None:
        table = read_parameters(replace(theory, search_values=0), taken[taken["parameter"] != "inverse_lam"])
        return {name: list(values) for name, values in table.items()}, []
    if not theory.descends:
        return {}, []
    problem: Chebyshev | Descent = Chebyshev(theory) if theory.algorithm == "chebyshev" else Descent(theory, seed)
    history = [] if theory.algorithm == "gd" and theory.form == "published" else _descend(theory, problem, seed, options)
    return {name: values.tolist() for name, values in problem.parameters.items()}, history


def _table(values: Mapping[str, Sequence[float]]) -> pd.DataFrame:
    rows = [(name, k, value) for name, column in values.items() for k, value in enumerate(column)]
    return pd.DataFrame(rows, columns=["parameter", "step", "value"])


def _searched(theory: Theory, values: Mapping[str, Sequence[float]], seed: int) -> float:
    """1/lambda, or the kernel's beta, of least loss, of `search_values` evenly spaced in their logarithm, on sequences that
    nothing else sees.
    """
    grid = np.geomspace(theory.search_low, theory.search_high, theory.search_values).tolist()
    observations = training_batch(theory.task, [seed], theory.search_sequences, "theory_search", 0)[0]
    name = searched_parameter(theory)
    return least_loss(grid, lambda value: from_parameters(theory, _table({**values, name: [value]})), observations)


def _descend(theory: Theory, problem: Chebyshev | Descent, seed: int, options: Options) -> list[float]:
    reading = problem.reading if isinstance(problem, Chebyshev) else None
    of_step = batches(theory, seed, problem.basis, reading, options.device, options.backend)

    def loss(step: int) -> Float[Tensor, ""]:
        with torch.no_grad():
            if isinstance(of_step, CompiledBatches):
                return torch.tensor(of_step.loss(step, **problem.parameters), dtype=torch.float64)
            moments = of_step(step)
        return moments.loss(problem.coefficients())

    home = options.home(theory, seed)
    checkpoints = None
    if home is not None:
        work = {"spec": theory.to_json(), "code": code_fingerprint("mesaopt.training.learning", theory.modules())}
        checkpoints = Checkpoints(home / CHECKPOINT, work | {"seed": seed, "backend": of_step.name}, options.checkpoint_every)
    schedule = theory.warmup, theory.horizon, theory.final_lr
    settings = Settings(theory.steps, theory.lr, theory.weight_decay, *schedule)
    return descend(problem.parameters.values(), loss, settings, f"{theory.name} seed {seed}", checkpoints)
