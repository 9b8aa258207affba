"""Where the numbers of a table come from: the stage that writes it, the equation behind it, and the code that computes it.

For the JSON of figures, and for `python -m mesaopt where`. What is in a table its stage's entry says (spec/stages.py).
"""

import ast
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from mesaopt.figures.parts import Figure, Source
from mesaopt.spec import stages
from mesaopt.spec.arguments import File
from mesaopt.spec.stage import Stage
from mesaopt.spec.words import FOLDERS, SOURCES, module_name


def origin(source: Source) -> tuple[Stage, File]:
    """The stage that writes the table that `source` reads, and what it says of that file."""
    return stages.origin(source.table, source.algorithm)


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
    "kernel": Equation(
        "sum_{t'<t} s_{t'+1} softmax_{t'}(beta s_{t'}^T s_t): softmax kernel regression (paper, appendix on kernel regression)",
        "mesaopt.algorithms.kernel_regression:KernelRegression",
    ),
    "lsq": Equation(
        "(sum_{t'<t} s_{t'+1} s_{t'}^T) (S S^T + I/lambda)^-1 s_t: the least-squares solution, exactly",
        "mesaopt.algorithms.least_squares:LeastSquares",
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
    stage, file = origin(source)
    return {"stage": stage.name, "what": stage.text, "equation": file.equation, "code": list(file.code)}


def _place(source: Source) -> dict[str, str]:
    return {"table": _table(source), "file": source.path, "rows": rows_in_words(source), "settings": source.run}


def rows_in_words(source: Source, series: str | None = None) -> str:
    """Which rows of the file, and which columns of them, in words."""
    wanted = dict(source.select) | (source.columns(series) or {} if series else {})
    parts = [f"{column} {', '.join(value) if isinstance(value, tuple) else value}" for column, value in wanted.items()]
    drawn = f"x: {source.x}, y: {source.y}" + (f", value: {source.value}" if source.value else "")
    if source.at is not None:
        drawn = f"x: {source.at:g}, y: mean of {source.y}" + (f" over {source.per}" if source.per > 1 else "")
    return f"{'; '.join(parts) or 'all'} ({drawn})"
