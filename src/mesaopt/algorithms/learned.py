"""Hand-written algorithms with parameters that were learned: from their table to the predictor."""

import pandas as pd

from mesaopt.algorithms.gradient_descent import GradientDescent
from mesaopt.algorithms.preconditioning import Preconditioned
from mesaopt.errors import InputError
from mesaopt.spec.algorithm import Theory


def from_parameters(theory: Theory, frame: pd.DataFrame) -> GradientDescent | Preconditioned:
    """The predictor with learned parameters; raises `InputError` when the table is not that of this algorithm."""
    table = frame.sort_values("step").groupby("parameter")["value"].apply(lambda values: tuple(values.tolist())).to_dict()
    names, size = (("alpha", "beta"), theory.n_steps) if theory.algorithm == "chebyshev" else (("eta", "w_0"), 1)
    if set(table) != set(names) or any(len(table[name]) != size for name in names):
        found = ", ".join(f"{len(values)} x {name}" for name, values in table.items())
        raise InputError(f"{theory.name}: needs {size} x {' and '.join(names)}, the parameters are {found or 'empty'}")
    if theory.algorithm == "gd":
        return GradientDescent(table["eta"][0], table["w_0"][0])
    return Preconditioned(table["alpha"], table["beta"], theory.inverse_lam, theory.form, theory.lag)
