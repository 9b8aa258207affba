"""Figure tables with planted values, for the tests of agreement."""

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from mesaopt.agreement.claims import Claims, Selection
from mesaopt.agreement.claims_file import read_claims
from mesaopt.store.tables import write_table

ROOT = Path(__file__).parents[2]
SEEDS = (1, 11, 111, 1111, 11111)
T = np.arange(1, 51)
#: series -> y of t
Planted = Mapping[str, Callable[[np.ndarray], np.ndarray]]


def curve_rows(
    panel: str, planted: Planted, x: np.ndarray = T, seeds: tuple[int, ...] = SEEDS, noise: float = 0.002
) -> pd.DataFrame:
    """Rows of a `figure` table: planted curves with relative noise by seed, the same noise for all series of a seed."""
    frames = []
    for seed in seeds:
        factor = 1 + 0.002 * np.random.default_rng(seed).normal(size=len(x))
        for series, y in planted.items():
            frames.append(pd.DataFrame({"x": x.astype(float), "y": y(x) * factor}).assign(panel=panel, series=series, seed=seed))
    return pd.concat(frames, ignore_index=True).assign(value=np.nan)


def cell_rows(panel: str, planted: Mapping[str, float], seeds: tuple[int, ...] = SEEDS) -> pd.DataFrame:
    """Rows with two coordinates, layer 1 and heads 1 and 2: the planted value is the mean over heads."""
    rows = [
        (panel, series, seed, 1.0, head, value * (1 + 0.1 * (head - 1.5)))
        for series, value in planted.items()
        for seed in seeds
        for head in (1.0, 2.0)
    ]
    return pd.DataFrame(rows, columns=["panel", "series", "seed", "x", "y", "value"])


def write_figure(folder: Path, name: str, *rows: pd.DataFrame) -> Path:
    write_table(pd.concat(rows, ignore_index=True), "figure", folder / f"{name}.parquet")
    return folder


def one_layer(gap: float = 0.01, seeds: tuple[int, ...] = SEEDS) -> tuple[pd.DataFrame, ...]:
    """Figure 2 as the paper has it, but for LSA-1 being `gap` above GD-1 from t = 31 on; learning rates equal."""
    base = lambda t: 1.7 / (1 + 0.1 * t)  # noqa: E731
    step = np.arange(0, 5001, 100)
    falling = lambda end: lambda x: end + (1.67 - end) * np.exp(-x / 150)  # noqa: E731
    flat = lambda level: lambda x: np.full(len(x), level)  # noqa: E731
    training = {"LSA-1": falling(0.892), "Interpolation-1": falling(0.89), "Proposition 1": flat(0.894), "Mesa-1": falling(0.19)}
    return (
        curve_rows("mse_1", {"GD-1": base, "LSA-1": lambda t: base(t) * np.where(t > 30, 1 + gap, 1)}, seeds=seeds),
        curve_rows("training_loss_1", training, x=step, seeds=seeds),
        curve_rows("eta", {"LSA-1": flat(0.0335), "GD-1": flat(0.032)}, x=np.zeros(1), seeds=seeds),
    )


def weights_of_one_layer() -> tuple[pd.DataFrame, ...]:
    """The structure of weights in the table of figure 13."""
    return (
        cell_rows("structure_lsa-d1-weights_trained_QK", {"block_strength": 24.0, "block_energy": 0.6}),
        cell_rows("structure_lsa-d1-weights_untrained_QK", {"block_strength": 0.8}),
    )


def shipped(*names: str) -> Claims:
    """The claims of the project, of those names alone if any are given."""
    claims = read_claims(ROOT)
    return Claims(claims.topics, tuple(claim for claim in claims.claims if not names or claim.name in names), ())


def selection(panel: str, *series: str, x: tuple[float, float] | str | None = None) -> Selection:
    return Selection("fig2", panel, series, x)  # type: ignore[arg-type]
