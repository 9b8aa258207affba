"""Where the numbers of a table come from: the stage that writes it, the equation behind it, and the code that computes it.

Said here once, for the workflow (which analyses figures want), for the JSON of figures and for `python -m mesaopt where`.
"""

import ast
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from mesaopt.figures.parts import Figure, Source
from mesaopt.spec.words import FOLDERS, SOURCES, module_name


@dataclass(frozen=True)
class Origin:
    """`stage` is one of the command line, `code` are functions as module:function, the one that says the equation first."""

    stage: str
    equation: str
    code: tuple[str, ...]


#: analyses of a trained run write these tables beside its weights, one origin a table
ANALYSES = {
    "loss": Origin(
        "evaluate",
        "half the squared error of the prediction of s_{t+1}, summed over channels, mean over sequences"
        " (paper, section on in-context next-token prediction)",
        ("mesaopt.models.predictors:loss_by_position", "mesaopt.stages.evaluate:evaluate_run"),
    ),
    "weights": Origin(
        "extract",
        "W_K^T W_Q and W_O W_V of every head (paper, section on linear self-attention)",
        ("mesaopt.models.products:layer_products", "mesaopt.stages.extract:weights_table"),
    ),
    "structure": Origin(
        "extract",
        "statistics of the products and of their n_obs x n_obs blocks; eta as in Proposition 1"
        " (paper, section on one linear self-attention layer)",
        ("mesaopt.stages.extract:block_structure", "mesaopt.stages.extract:sparsity", "mesaopt.stages.extract:implied_eta"),
    ),
    "interpolation": Origin(
        "interpolate",
        "loss of products of which every block is (mean of its diagonal) I, or of their mean with the trained ones"
        " (paper, section on deep linear self-attention, and its appendix on compression)",
        ("mesaopt.models.products:compress", "mesaopt.models.products:average", "mesaopt.stages.interpolate:interpolate_run"),
    ),
    "probes": Origin(
        "probe",
        "least squares without intercept from the residual stream after a layer to s_{t+1}, or to the preconditioned input"
        " (S S^T + I/lambda)^-1 s_t (paper, section on deep linear self-attention: probing)",
        ("mesaopt.analyses.linear_probes:fit", "mesaopt.analyses.linear_probes:score", "mesaopt.analyses.probe_targets:make_targets"),
    ),
    "in_context": Origin(
        "probe",
        "L_t(Phi) = 1/2 sum_{t'<t} |s_{t'+1} - Phi s_{t'}|^2, by t-1, of the linear map read out after a layer"
        " (paper, section on mesa-optimisation: the mesa-objective)",
        ("mesaopt.analyses.in_context:in_context_loss",),
    ),
}
#: what the training itself writes
_TRAINING = {
    "history": Origin(
        "train",
        "half the squared error summed over channels, mean over t, on fixed test batches (paper, section on training details)",
        ("mesaopt.data.test_sets:fixed_test_batches", "mesaopt.models.transformer:Transformer"),
    ),
}
#: tables of hand-written algorithms
_ALGORITHMS = {
    "loss": Origin(
        "evaluate-theory",
        "half the squared error of the prediction of s_{t+1}, summed over channels, mean over sequences"
        " (paper, section on in-context next-token prediction)",
        ("mesaopt.models.predictors:loss_by_position", "mesaopt.stages.evaluate:evaluate_theory"),
    ),
    "parameters": Origin(
        "learn",
        "the algorithm's parameters that minimise the task's own next-token loss (paper, Propositions 1 and 2)",
        ("mesaopt.training.learning:learn",),
    ),
}


def origin(source: Source) -> Origin:
    """Of the table that `source` reads."""
    return (_ALGORITHMS if source.algorithm else ANALYSES | _TRAINING)[source.table]


@dataclass(frozen=True)
class Equation:
    """What a kind of layers, or an algorithm, computes, and where."""

    equation: str
    code: str


_ALGORITHM_EQUATIONS = {
    "gd": Equation(
        "(Phi_0 - eta grad L_t(Phi_0)) s_t (paper, Proposition 1)", "mesaopt.algorithms.gradient_descent:GradientDescent"
    ),
    "chebyshev": Equation(
        "sum_{t'<t} s_{t'+1} s_{t'}^T x_K, x_K: K Chebyshev steps towards (S S^T + I/lambda)^-1 s_t (paper, Proposition 2)",
        "mesaopt.algorithms.preconditioning:Preconditioned",
    ),
}


def equation(kind: str) -> Equation:
    """Of an algorithm, or of a kind of layers: there it is what the kind's module says of itself first."""
    if kind in _ALGORITHM_EQUATIONS:
        return _ALGORITHM_EQUATIONS[kind]
    source = (SOURCES / FOLDERS["layer"] / f"{kind}.py").read_text(encoding="utf-8")
    first = (ast.get_docstring(ast.parse(source)) or "").partition("\n\n")[0]
    return Equation(" ".join(first.split()), f"{module_name('layer', kind)}:heads")


def origins_of(wanted: Figure, specs: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """For a figure's JSON: `tables`, what makes each kind of table, `panels`, of every series its file, rows and run, and
    `kinds`, the equations of the layers and algorithms in `specs`.

    A run's settings stand in the same JSON, under `runs` or `algorithms`.
    """
    kinds = [
        kind for spec in specs for kind in (*spec.get("model", {}).get("layers", []), *filter(None, [spec.get("algorithm")]))
    ]
    sources = [source for panel in wanted.panels for source in panel.sources]
    return {
        "tables": {_table(source): _made(source) for source in sources},
        "panels": {panel.name: {of.series: _place(of) for of in panel.sources} for panel in wanted.panels if panel.sources},
        "kinds": {kind: asdict(equation(kind)) for kind in dict.fromkeys(kinds)},
    }


def _table(source: Source) -> str:
    return f"{source.table} of an algorithm" if source.algorithm else source.table


def _made(source: Source) -> dict[str, Any]:
    of = origin(source)
    return {"stage": of.stage, "equation": of.equation, "code": list(of.code)}


def _place(source: Source) -> dict[str, str]:
    return {"table": _table(source), "file": source.path, "rows": rows_in_words(source), "settings": source.run}


def rows_in_words(source: Source, series: str | None = None) -> str:
    """Which rows of the file, and which columns of them, in words."""
    wanted = dict(source.select) | (source.columns(series) or {} if series else {})
    parts = [f"{column} {', '.join(value) if isinstance(value, tuple) else value}" for column, value in wanted.items()]
    drawn = f"x: {source.x}, y: {source.y}" + (f", value: {source.value}" if source.value else "")
    return f"{'; '.join(parts) or 'all'} ({drawn})"
