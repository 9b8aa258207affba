"""Hand-written algorithms with parameters that were learned: from their table to the predictor."""

import pandas as pd

from mesaopt.algorithms.gradient_descent import GradientDescent
from mesaopt.algorithms.kernel_regression import KernelRegression
from mesaopt.algorithms.least_squares import LeastSquares
from mesaopt.algorithms.preconditioning import Preconditioned
from mesaopt.algorithms.reading import reading_of
from mesaopt.errors import InputError
from mesaopt.spec.algorithm import Theory

Algorithm = GradientDescent | Preconditioned | LeastSquares | KernelRegression


def parameter_counts(theory: Theory) -> dict[str, int]:
    """How many values of each parameter the table of this algorithm holds; 1/lambda where it is a result."""
    searched = {searched_parameter(theory): 1} if theory.search_values else {}
    if theory.algorithm == "gd":
        return {"eta": 1, "w_0": 1}
    if theory.algorithm == "lsq":
        return {"inverse_lam": 1}
    if theory.algorithm == "kernel":
        return searched
    return {"alpha": theory.n_steps, "beta": theory.n_steps} | searched


def searched_parameter(theory: Theory) -> str:
    """What `search_values` are values of."""
    return "inverse_temperature" if theory.algorithm == "kernel" else "inverse_lam"


def read_parameters(theory: Theory, frame: pd.DataFrame) -> dict[str, tuple[float, ...]]:
    """Values by parameter, in the order of their steps; raises `InputError` when the table is not that of this algorithm."""
    table = frame.sort_values("step").groupby("parameter")["value"].apply(lambda values: tuple(values.tolist())).to_dict()
    expected, found = parameter_counts(theory), {str(name): len(values) for name, values in table.items()}
    if found != expected:
        raise InputError(f"{theory.name}: needs {_listed(expected)}; the parameters are {_listed(found) or 'empty'}")
    return {str(name): values for name, values in table.items()}


def _listed(counts: dict[str, int]) -> str:
    return ", ".join(f"{count} x {name}" for name, count in counts.items())


def from_parameters(theory: Theory, frame: pd.DataFrame) -> Algorithm:
    """The predictor with learned parameters; raises `InputError` when the table is not that of this algorithm."""
    table = read_parameters(theory, frame)
    if theory.algorithm == "gd":
        return GradientDescent(table["eta"][0], table["w_0"][0])
    if theory.algorithm == "kernel":
        return KernelRegression(table["inverse_temperature"][0])
    (inverse_lam,) = table.get("inverse_lam", (theory.used_inverse_lam,))
    if theory.algorithm == "lsq":
        return LeastSquares(inverse_lam, theory.lag, reading_of(theory))
    return Preconditioned(table["alpha"], table["beta"], inverse_lam, theory.form, theory.lag, reading_of(theory))
