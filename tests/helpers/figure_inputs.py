"""Synthetic results of a scale, shaped like the real ones, for the tests of figures."""

import json
import re
from pathlib import Path

import numpy as np
import pandas as pd

from mesaopt.figures.controls import STATISTICS
from mesaopt.figures.registry import FIGURES, inputs
from mesaopt.store.tables import write_table

SEEDS = (1, 11)
N_OBS, LAYERS, POSITIONS = 3, 6, 12
BATCHES = (1, 2, 3, 4, 5)
#: tables with a row per layer
LAYERED = ("probes", "feature_probes")


def write_results(folder: Path, seeds: tuple[int, ...] = SEEDS, only: str | None = None) -> Path:
    """Every file that figures read (of figure `only`, if given), under `folder`/synthetic; returns that folder."""
    results = folder / "synthetic"
    for path in sorted({path for name in FIGURES if only in (None, name) for path in inputs(name, seeds)}):
        seed = re.search(r"seed-(\d+)", path)
        number = int(seed[1]) if seed else 0
        _write(results / path, number, np.random.default_rng([number, len(path)]))
    return results


def _write(path: Path, seed: int, rng: np.random.Generator) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.name == "spec.json":
        path.write_text(json.dumps({"name": path.parts[-3], "seed": seed}))
    elif path.name == "provenance.json":
        path.write_text(json.dumps(record(seed)))
    else:
        table = "loss" if path.parent.name == "loss" else path.stem
        layers = {"layers": 7} if table in LAYERED and "softmax-d7" in str(path) else {}
        write_table(MAKERS[table](rng, **layers), table, path)


def record(seed: int) -> dict:
    return {
        "commit": "0123456789abcdef",
        "dirty": False,
        "wall_seconds": 36.0,
        "cpu": "a processor",
        "versions": {"numpy": "2.0"},
    }


def _history(rng: np.random.Generator) -> pd.DataFrame:
    step = np.arange(0, 501, 50)
    loss = 0.9 + 0.8 * np.exp(-step / 150) + 0.01 * rng.normal(size=len(step))
    return pd.DataFrame({"step": step, "train_loss": np.where(step > 0, loss, np.nan), "test_loss": loss})


def _loss(rng: np.random.Generator) -> pd.DataFrame:
    index = pd.MultiIndex.from_product([(0, *BATCHES), range(1, POSITIONS + 1)], names=["batch", "t"])
    frame = index.to_frame(index=False).assign(predictor="any")
    mse = 1.7 / np.sqrt(frame["t"]) + 0.01 * rng.normal(size=len(frame))
    return frame.assign(sequences=400, mse=mse, error=0.03 * mse, median=0.8 * mse)


def _interpolation(rng: np.random.Generator) -> pd.DataFrame:
    history = _history(rng)
    frames = [
        pd.DataFrame({"predictor": name, "step": history["step"], "test_loss": history["test_loss"] * factor})
        for name, factor in (("trained", 1.0), ("interpolation", 1.01))
    ]
    flat = pd.DataFrame({"predictor": "compressed", "step": history["step"], "test_loss": 0.92})
    mean = pd.concat([*frames, flat], ignore_index=True).assign(batch=0)
    single = [mean.assign(batch=batch, test_loss=mean["test_loss"] + offset) for batch, offset in ((1, 0.01), (2, -0.01))]
    return pd.concat([mean, *single], ignore_index=True)


def _matched_loss(rng: np.random.Generator) -> pd.DataFrame:
    history = _history(rng)
    names = ("interpolation", "interpolation_matched", "between", "between_matched")
    factors = {"trained": 1.0, "first": 1.02} | dict.fromkeys(names, 1.1)
    frames = [
        pd.DataFrame({"predictor": name, "step": history["step"], "test_loss": history["test_loss"] * factor})
        for name, factor in factors.items()
    ]
    mean = pd.concat(frames, ignore_index=True)
    return pd.concat([mean.assign(batch=batch) for batch in (0, 1, 2)], ignore_index=True)


def _matching(rng: np.random.Generator) -> pd.DataFrame:
    names = ["step", "layer", "head"]
    cells = [(step, 0, 0) for step in _history(rng)["step"]]
    cells += [(step, layer, head) for step, _, _ in tuple(cells) for layer in range(1, LAYERS + 1) for head in (1, 2, 3, 4)]
    frame = pd.DataFrame(cells, columns=names)
    return frame.assign(other=frame["head"], sign=1, swapped=0, distance=rng.random(len(frame)), matched=0.1)


def _probes(rng: np.random.Generator, layers: int = LAYERS) -> pd.DataFrame:
    drawn = ("next_token", "preconditioned_input_published")
    targets = (*drawn, "preconditioned_input", "current_token", *(f"shuffled_{name}" for name in drawn))
    names = ["model", "split", "batch", "target", "layer", "t"]
    parts = (("trained", ("in_sample", "held_out"), (0,)), ("untrained", ("in_sample", "held_out"), (0,)))
    axes = (targets, range(layers + 1), range(1, POSITIONS + 1))
    frame = pd.concat(
        [
            pd.MultiIndex.from_product([(model,), splits, batches, *axes], names=names).to_frame(index=False)
            for model, splits, batches in (*parts, ("trained", ("in_sample",), BATCHES))
        ],
        ignore_index=True,
    )
    frame["mse"] = 1.5 / (1 + frame["layer"]) / np.sqrt(frame["t"]) * np.exp(0.05 * rng.normal(size=len(frame)))
    frame.loc[(frame["t"] == 1) & (frame["target"].str.startswith("preconditioned_input")), "mse"] = 1e-20
    frame.loc[frame["split"] == "held_out", "mse"] *= 2
    frame.loc[frame["model"] == "untrained", "mse"] += 10
    return frame.assign(r2=0.5)


def _weights(rng: np.random.Generator) -> pd.DataFrame:
    channels = range(4 * N_OBS)
    names = ["layer", "head", "product", "row", "col"]
    index = pd.MultiIndex.from_product([range(1, LAYERS + 1), range(1, 5), ("QK", "OV"), channels, channels], names=names)
    frame = index.to_frame(index=False)
    diagonal = (frame["row"] % N_OBS == frame["col"] % N_OBS) & (frame["row"] // N_OBS == 3)
    return frame.assign(value=0.1 * diagonal + 0.01 * rng.normal(size=len(frame)))


def _structure(rng: np.random.Generator) -> pd.DataFrame:
    names = ["model", "layer", "head", "product", "statistic"]
    axes = [("trained", "untrained"), range(1, LAYERS + 1), range(1, 5), ("QK", "OV"), (*STATISTICS, "diag_mean_1_1")]
    frame = pd.MultiIndex.from_product(axes, names=names).to_frame(index=False)
    of_all_heads = ("eta", "eta_all_slots", "joint_block_energy")
    rows = [(model, 1, 0, "OV", name) for model in ("trained", "untrained") for name in of_all_heads]
    frame = pd.concat([frame, pd.DataFrame(rows, columns=names)], ignore_index=True)
    return frame.assign(value=rng.random(len(frame)))


def _parameters(rng: np.random.Generator) -> pd.DataFrame:
    return pd.DataFrame({"parameter": ["eta", "w_0"], "step": 0, "value": [0.03 + 0.001 * rng.random(), 0.0]})


def _in_context(rng: np.random.Generator) -> pd.DataFrame:
    frames = [
        pd.DataFrame({"layer": range(LAYERS + 1), "t": t, "loss": np.exp(-np.arange(LAYERS + 1)) + 0.01 * rng.random(LAYERS + 1)})
        for t in (POSITIONS - 1, POSITIONS)
    ]
    return pd.concat(frames, ignore_index=True)


def _decoded(target: str, rng: np.random.Generator, **axes: range) -> pd.DataFrame:
    """A table of probes with columns `axes`, errors that fall with their last one."""
    names = ["model", "split", "batch", "target", *axes]
    parts = [("trained", 0), ("untrained", 0), *(("trained", batch) for batch in BATCHES)]
    frames = [
        pd.MultiIndex.from_product(
            [(model,), ("in_sample", "held_out"), (batch,), (target, f"shuffled_{target}"), *axes.values()], names=names
        ).to_frame(index=False)
        for model, batch in parts
    ]
    frame = pd.concat(frames, ignore_index=True)
    return frame.assign(mse=0.2 / frame[list(axes)[-1]] * np.exp(0.05 * rng.normal(size=len(frame))), r2=0.5)


def _token_probes(rng: np.random.Generator) -> pd.DataFrame:
    return _decoded("token", rng, layer=range(1, 2), t=range(50, 51), token=range(43, 51))


def _feature_probes(rng: np.random.Generator, layers: int = LAYERS) -> pd.DataFrame:
    return _decoded("features", rng, layer=range(layers + 1), t=range(1, POSITIONS + 1))


def _attention(rng: np.random.Generator) -> pd.DataFrame:
    names = ["model", "batch", "head", "t", "token"]
    axes = [("trained",), (0, *BATCHES), range(5), range(1, POSITIONS + 1), range(1, POSITIONS + 1)]
    frame = pd.MultiIndex.from_product(axes, names=names).to_frame(index=False).query("token <= t")
    return frame.assign(weight=0.9 * (frame["token"] == frame["t"]) + 0.05 * rng.random(len(frame)))


def _attention_lags(rng: np.random.Generator) -> pd.DataFrame:
    axes = [("trained",), (0, *BATCHES), range(5), range(8)]
    frame = pd.MultiIndex.from_product(axes, names=["model", "batch", "head", "lag"]).to_frame(index=False)
    return frame.assign(weight=0.5 ** (1 + frame["lag"]) + 0.001 * rng.random(len(frame)))


def _sensitivity(rng: np.random.Generator) -> pd.DataFrame:
    elements = [(t, t) for t in range(45, 51)] + [(1, 44)]
    rows = [(step, batch, *of) for step in range(0, 301, 100) for batch in (0, 1) for of in elements]
    frame = pd.DataFrame(rows, columns=["step", "batch", "first", "last"])
    return frame.assign(sensitivity=0.1 + 0.01 * frame["step"] * (frame["last"] > 48) + 0.01 * rng.random(len(frame)))


def _language_history(rng: np.random.Generator) -> pd.DataFrame:
    step = np.arange(0, 501, 50)
    loss = 2.5 + 3 * np.exp(-step / 150) + 0.01 * rng.normal(size=len(step))
    score = -0.4 * (1 - np.exp(-step / 100)) + 0.01 * rng.normal(size=len(step))
    columns = {"step": step, "tokens": step * 512, "train_loss": np.where(step > 0, loss, np.nan), "test_loss": loss}
    return pd.DataFrame(columns | {"perplexity": np.exp(loss), "score": score, "single_score": score * 1.1})


def _language_loss(rng: np.random.Generator) -> pd.DataFrame:
    t = np.arange(1, POSITIONS + 1)
    return pd.DataFrame({"t": t, "loss": 3 - 0.1 * np.log(t) + 0.01 * rng.normal(size=len(t))})


def _language_measures(rng: np.random.Generator) -> pd.DataFrame:
    names = ["loss", "perplexity", "score", "single_score", "repeated_first", "repeated_second"]
    return pd.DataFrame({"measure": names, "value": rng.normal(size=len(names))})


def _language_attention(rng: np.random.Generator) -> pd.DataFrame:
    axes = [range(1, 13), range(1, POSITIONS + 1), range(1, POSITIONS + 1)]
    frame = pd.MultiIndex.from_product(axes, names=["head", "t", "token"]).to_frame(index=False).query("token <= t")
    return frame.assign(weight=0.9 * (frame["token"] == frame["t"] - 1) + 0.05 * rng.random(len(frame)))


def _copy_heads(rng: np.random.Generator) -> pd.DataFrame:
    return pd.DataFrame({"head": range(13), "offset": 1, "weight": 0.9 * rng.random(13), "deviation": 0.1 * rng.random(13)})


def _few_shot(rng: np.random.Generator) -> pd.DataFrame:
    names = ["predictor", "tasks", "pair"]
    axes = [
        ("model", "model_eos", "model_eos_prefix", "lsq", "lsq_searched", "lsq_pairs", "zero"),
        ("one", "two"),
        range(POSITIONS),
    ]
    frame = pd.MultiIndex.from_product(axes, names=names).to_frame(index=False)
    return frame.assign(task=1, k=frame["pair"], mse=1.7 / np.sqrt(1 + frame["pair"]) + 0.01 * rng.random(len(frame)))


def _early_ascent(rng: np.random.Generator) -> pd.DataFrame:
    predictors = ["model", "model_eos", "model_eos_prefix"]
    return pd.DataFrame({"predictor": predictors, "height": 1 + rng.random(3), "place": range(3), "width": range(3)})


def _tuning(rng: np.random.Generator) -> pd.DataFrame:
    frame = pd.MultiIndex.from_product([("separator", "prefix"), range(1, 6)], names=["token", "step"]).to_frame(index=False)
    return frame.assign(loss=1 / frame["step"] + 0.01 * rng.random(len(frame)))


def _linearisation(rng: np.random.Generator) -> pd.DataFrame:
    frame = pd.MultiIndex.from_product([("softmax", "plain"), range(8)], names=["start", "layer"]).to_frame(index=False)
    return frame.assign(loss=0.1, normalised=1 + 1 / (1 + frame["layer"]) + 0.01 * rng.random(len(frame)), error=0.1)


def _linear_weights(rng: np.random.Generator) -> pd.DataFrame:
    weights = _weights(rng)
    few = weights[(weights["layer"] <= 2) & (weights["head"] == 1)]
    return pd.concat([few.assign(start=start) for start in ("trained", "softmax", "plain")], ignore_index=True)


MAKERS = {
    "language_history": _language_history,
    "language_loss": _language_loss,
    "language_measures": _language_measures,
    "language_attention": _language_attention,
    "copy_heads": _copy_heads,
    "few_shot": _few_shot,
    "early_ascent": _early_ascent,
    "tuning": _tuning,
    "linearisation": _linearisation,
    "linear_weights": _linear_weights,
    "token_probes": _token_probes,
    "feature_probes": _feature_probes,
    "attention": _attention,
    "attention_lags": _attention_lags,
    "sensitivity": _sensitivity,
    "history": _history,
    "loss": _loss,
    "interpolation": _interpolation,
    "matched_loss": _matched_loss,
    "matching": _matching,
    "probes": _probes,
    "weights": _weights,
    "in_context": _in_context,
    "parameters": _parameters,
    "structure": _structure,
}
