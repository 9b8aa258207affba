"""Every Parquet table of the project: columns, types, units; checked writing and reading.

Writing is atomic (a table is there whole or not at all) and deterministic (same rows, same bytes).
Nothing is written that `read_table` would refuse.
"""

import os
import re
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from mesaopt.errors import InputError
from mesaopt.store.digests import require_intact, write_digest
from mesaopt.store.disk import sync, sync_folder

#: table -> column -> type; columns of `sequences` that hold the state are added per width (`s_0` ... `s_{n-1}`).
TABLES: dict[str, dict[str, str]] = {
    # one row per (sequence, t), t = 1..T+1; split is evaluation, probe_fit or probe_score; s_i are the observed channels
    "sequences": {"split": "string", "sequence": "int32", "t": "int32"},
    # the matrices that produced each sequence: h_{t+1} = W h_t, s_t = C h_t; one row per entry
    "systems": {"split": "string", "sequence": "int32", "matrix": "string", "row": "int32", "col": "int32", "value": "float32"},
    # training: train_loss on the batch of the step before, test_loss on the fixed test batches; both mean over t of half the
    # squared error summed over channels. The first row is step 0.
    "history": {"step": "int32", "train_loss": "float64", "test_loss": "float64"},
    # next-token loss by position: half the squared error summed over channels; over so many sequences its mean (mse), the
    # standard error of that (0 of a single one), and its median; batch 0: the seed's own sequences, 1 to 5: test batches that all
    # seeds share
    "loss": {
        "predictor": "string",
        "batch": "int32",
        "t": "int32",
        "sequences": "int32",
        "mse": "float64",
        "error": "float64",
        "median": "float64",
    },
    # learned parameters of a hand-written algorithm: eta, w_0 (step 0), or alpha_k, beta_k (step k); inverse_lam where searched;
    # inverse_temperature of kernel regression
    "parameters": {"parameter": "string", "step": "int32", "value": "float64"},
    # products of one head: QK = W_K^T W_Q (row: key channel, col: query channel), OV = W_O W_V (row: output, col: input channel)
    "weights": {"layer": "int32", "head": "int32", "product": "string", "row": "int32", "col": "int32", "value": "float32"},
    # structure of the products: statistic by name (stages/extract.py), per layer, head and product; model is trained or untrained
    "structure": {
        "model": "string",
        "layer": "int32",
        "head": "int32",
        "product": "string",
        "statistic": "string",
        "value": "float64",
    },
    # test loss along a second training run: predictor is trained, interpolation or compressed; batch 0: mean over the training's
    # test batches, 1, 2, ...: each of them
    "interpolation": {"predictor": "string", "batch": "int32", "step": "int32", "test_loss": "float64"},
    # heads of two trainings from one initialisation, matched at every step that both have: which head of the first (other) is
    # most like this one of the second, with which sign, and whether with the copies of s_t in slots 2 and 3 exchanged; relative
    # distance of their products as heads stand, and matched. Layer 0, head 0: means of the distances, numbers of heads that
    # another one is like (other) and of heads of the other sign (sign)
    "matching": dict.fromkeys(("step", "layer", "head", "other", "sign", "swapped"), "int32")
    | dict.fromkeys(("distance", "matched"), "float64"),
    # test loss along the second of them: predictor is trained, first (the first training at that step), between (their average at
    # that step), interpolation (with the compressed end of the first), each of the last two also _matched; batch as above
    "matched_loss": {"predictor": "string", "batch": "int32", "step": "int32", "test_loss": "float64"},
    # linear probes: layer 0 is the input; model is trained or untrained; split is in_sample or held_out; batch as in `loss`;
    # mse in the unit of `loss`; r2 mean over channels
    "probes": {
        "model": "string",
        "split": "string",
        "batch": "int32",
        "target": "string",
        "layer": "int32",
        "t": "int32",
        "mse": "float64",
        "r2": "float64",
    },
    # what of s_{t+1} can be decoded from the preconditioned input (source: the name of its target in `probes`) at t alone,
    # without a model; other columns and units as in `probes`
    "control_probe": {
        "source": "string",
        "split": "string",
        "batch": "int32",
        "t": "int32",
        "mse": "float64",
        "r2": "float64",
    },
    # what of s_token can be decoded from the stream after `layer` at position t; model, split and batch as in `probes`; target is
    # token, or shuffled_token (those of other sequences); mse is the squared error, mean over channels and sequences (no half,
    # no sum); r2 as in `probes`
    "token_probes": {
        "model": "string",
        "split": "string",
        "batch": "int32",
        "target": "string",
        "layer": "int32",
        "t": "int32",
        "token": "int32",
        "mse": "float64",
        "r2": "float64",
    },
    # how well the task's features MLP(s_t), not normalised, can be decoded from the stream after each layer at t (0: the input);
    # columns and units as in `token_probes`, target features or shuffled_features
    "feature_probes": {
        "model": "string",
        "split": "string",
        "batch": "int32",
        "target": "string",
        "layer": "int32",
        "t": "int32",
        "mse": "float64",
        "r2": "float64",
    },
    # weights of the first layer's attention, mean over sequences: with which weight `head` (from 1; 0: mean over heads) sums at
    # position t (the query) the values of position `token` <= t; model and batch as in `probes`
    "attention": {
        "model": "string",
        "batch": "int32",
        "head": "int32",
        "t": "int32",
        "token": "int32",
        "weight": "float64",
    },
    # the same weights on the element `lag` steps back, mean over the positions that have that many before them
    "attention_lags": {"model": "string", "batch": "int32", "head": "int32", "lag": "int32", "weight": "float64"},
    # norm of the derivative of the first layer's output at the last position by an element of the sequence, mean over output
    # channels and sequences, and over the elements first..last (one, or all the earlier ones); by step of the training, batch as
    # in `loss`
    "sensitivity": {"step": "int32", "batch": "int32", "first": "int32", "last": "int32", "sensitivity": "float64"},
    # channels of the tuned tokens of prompts: token is separator (EOS) or prefix, number counts those of a kind from 0
    "prompt_tokens": {"token": "string", "number": "int32", "channel": "int32", "value": "float64"},
    # tuning of these: error of labels (unit of `loss`), mean over pairs and over the steps since the row before
    "tuning": {"token": "string", "step": "int32", "loss": "float64"},
    # error of labels in the unit of `loss`, after k pairs of the same task; predictor is model, model_eos, model_eos_prefix (with
    # tuned tokens), lsq, lsq_searched, lsq_pairs or zero; tasks is one, or two where the task changes from task 1 to 2; pair:
    # where it is drawn
    "few_shot": {
        "predictor": "string",
        "tasks": "string",
        "task": "int32",
        "k": "int32",
        "pair": "int32",
        "mse": "float64",
    },
    # how far pairs first make predictors worse than zero (one task): the largest error after k = 1, 2, ... pairs over that of
    # zero, its k, and the number of k with an error above that of zero
    "early_ascent": {"predictor": "string", "height": "float64", "place": "int32", "width": "int32"},
    # distillation of softmax layers into linear ones: loss summed over layers and starts, mean over the steps since the last row
    "distillation": {"step": "int32", "loss": "float64"},
    # linear layers in the place of softmax ones: `start` says where their distillation began (softmax or plain), layer 0 is all
    # layers at once; loss in the unit of `loss`, mean over t; normalised: by that of the model itself; error: mean square of what
    # is wrong in the layer's attention output by that of the output (layer 0: mean over layers)
    "linearisation": {
        "start": "string",
        "layer": "int32",
        "loss": "float64",
        "normalised": "float64",
        "error": "float64",
    },
    # products as in `weights`, of the softmax layers (start: trained; QK over sqrt(d_head)) and of linear layers by their start
    "linear_weights": {
        "start": "string",
        "layer": "int32",
        "head": "int32",
        "product": "string",
        "row": "int32",
        "col": "int32",
        "value": "float32",
    },
    # mesa-objective L_t(Phi)/(t-1) of the predictor that is read out after each layer, at the last positions
    "in_context": {"layer": "int32", "t": "int32", "loss": "float64"},
    # training on text: tokens seen, train_loss on the batch of the step before, test_loss on held-back text, in nats a token, and
    # its perplexity; score: loss late in the context less that early in it, means over positions, and of two positions alone
    "language_history": {
        "step": "int32",
        "tokens": "int64",
        "train_loss": "float64",
        "test_loss": "float64",
        "perplexity": "float64",
        "score": "float64",
        "single_score": "float64",
    },
    # loss of a trained language model by the number of tokens that it looked at, in nats, mean over held-back sequences
    "language_loss": {"t": "int32", "loss": "float64"},
    # measures by name: loss, perplexity, score and single_score as in `language_history`; repeated_first and repeated_second, the
    # loss on random tokens, and on the same ones once more
    "language_measures": {"measure": "string", "value": "float64"},
    # first layer of a language model: weight of the token at position `token` for the query at t, mean over held-back sequences
    "language_attention": {"head": "int32", "t": "int32", "token": "int32", "weight": "float64"},
    # of every head (0: the best of them) the distance where it has most weight, that weight, and its deviation over sequences
    "copy_heads": {"head": "int32", "offset": "int32", "weight": "float64", "deviation": "float64"},
    # declared packages and facts of the machine; state: as declared, drift (of a version from its pin), or recorded
    "environment": dict.fromkeys(("item", "declared", "declared_in", "running", "source", "state"), "string"),
    # every drawn value of a figure, and its controls: curves of y over x, or values in cells (matrices: x = column, y = row)
    "figure": {"panel": "string", "series": "string", "seed": "int64", "x": "float64", "y": "float64", "value": "float64"},
    # a claim of config/claims.yaml per row: the estimate over `seeds` training seeds and its 95 % interval, where it must lie,
    # what is published, the p-value of the decision alone and in the family of all claims, how many seeds would decide what is
    # undecided, both verdicts, and why there is none
    "agreement": dict.fromkeys(("claim", "topic", "sentence", "source", "figures", "statistic"), "string")
    | {"seeds": "int32"}
    | dict.fromkeys(("estimate", "low", "high", "bound_low", "bound_high", "published", "p", "p_family", "needed"), "float64")
    | dict.fromkeys(("verdict", "verdict_family", "reason"), "string")
    # the scale at which its tables were made: of recorded ones that of their records
    | {"made_at": "string"}
    # "text" where probes of the preconditioned input are of the text's recursion alone (agreement/forms.py)
    | {"form": "string"}
    # of claims on probes: how they are scored, and what comes out where they are scored otherwise (agreement/splits.py)
    | {"scored": "string"}
    | dict.fromkeys(("other_estimate", "other_low", "other_high"), "float64")
    | {"other_verdict": "string"},
    # a claim on the one system of figure 12 and a teacher (0: that of figure 12) per row: the estimate, its standard deviation
    # over seeds (log: both of the logarithm), the verdict
    "teachers": {
        "claim": "string",
        "teacher": "int32",
        "seeds": "int32",
        "estimate": "float64",
        "deviation": "float64",
        "log": "int32",
        "verdict": "string",
    },
    # a published curve per row: of its `points` at the same x as ours, the share within the tolerance; the largest gap (ours by
    # published, minus 1), its x, and the standard deviation over our seeds there, as a part of our value; the standard error of
    # the published mean there over its test sequences, as a part of it, where that is known
    "curves": dict.fromkeys(("figure", "panel", "series", "published"), "string")
    | {"seeds": "int32", "points": "int32"}
    | dict.fromkeys(("within", "largest_gap", "at", "deviation", "published_error"), "float64"),
    # a curve per row: its standard deviation over test batches with the seed held fixed, over seeds with the batches held fixed,
    # and over seeds as drawn (drawn_on: own sequences, or mean of own batches), as parts of its value and means over `points` x;
    # ratio and drawn_ratio: the last two by the first (agreement/spread.py)
    "spread": dict.fromkeys(("figure", "panel", "series", "drawn_on"), "string")
    | dict.fromkeys(("seeds", "batches", "points"), "int32")
    | dict.fromkeys(("over_batches", "over_seeds", "drawn", "ratio", "drawn_ratio"), "float64"),
}

#: tables that may have no rows: no figure need be there batch by batch, or of several teachers
_MAY_BE_EMPTY = {"spread", "teachers"}

#: columns that may be empty: the first row of a history has no training loss, curve panels have no `value`; what was not run has
#: no estimate, a bound may have one side, not everything is published; a single seed has no deviation
_OPTIONAL = {
    ("history", "train_loss"),
    ("language_history", "train_loss"),
    ("figure", "value"),
    *(("agreement", name) for name, kind in TABLES["agreement"].items() if kind == "float64"),
    ("curves", "deviation"),
    ("teachers", "deviation"),
    ("curves", "published_error"),
    *(("spread", name) for name, kind in TABLES["spread"].items() if kind == "float64"),
}


def _columns(table: str, names: Sequence[str]) -> dict[str, str]:
    columns = dict(TABLES[table])
    if table == "sequences":
        columns |= {name: "float32" for name in names if name.startswith("s_") and name[2:].isdigit()}
    return columns


def check_table(frame: pd.DataFrame, table: str, where: str) -> None:
    """Raise `InputError` unless `frame` has exactly the columns of `table` and no NaN, infinity or missing entry."""
    expected = _columns(table, list(frame.columns))
    if set(frame.columns) != set(expected) or (table == "sequences" and len(expected) == len(TABLES[table])):
        raise InputError(
            f"{where}: not a {table} table: columns {', '.join(map(str, frame.columns))}; expected {', '.join(expected)}"
        )
    if frame.empty and table not in _MAY_BE_EMPTY:
        raise InputError(f"{where}: the {table} table has no rows")
    for name, kind in expected.items():
        column = frame[name]
        if kind == "string":
            bad = bool(column.isna().any())
        elif not pd.api.types.is_numeric_dtype(column):
            raise InputError(f"{where}: column {name} of a {table} table must be {kind}, not {column.dtype}")
        elif (table, name) in _OPTIONAL:
            bad = bool(np.isinf(column.to_numpy(dtype="float64", na_value=np.nan)).any())
        else:
            bad = not bool(np.isfinite(column.to_numpy(dtype="float64", na_value=np.nan)).all())
        if bad:
            raise InputError(f"{where}: column {name} of the {table} table has missing or non-finite values")


def write_table(frame: pd.DataFrame, table: str, path: str | os.PathLike[str]) -> None:
    """Write `frame` as Parquet at `path`, checked and atomically; columns in the declared order and types.

    Raises `InputError` when the frame is not such a table or the disk refuses.
    """
    path = Path(path)
    check_table(frame, table, str(path))
    expected = _columns(table, list(frame.columns))
    schema = pa.schema([(name, getattr(pa, kind)()) for name, kind in expected.items()])
    content = pa.Table.from_pandas(frame[list(expected)], schema=schema, preserve_index=False).replace_schema_metadata(None)
    # measured numbers repeat no value; encodings that every reader of Parquet knows, at the cost of a fifth of the size
    repeating = [name for name, kind in expected.items() if not kind.startswith("float")]
    with atomic_path(path) as temporary:
        pq.write_table(content, temporary, compression="zstd", use_dictionary=repeating)


def read_parquet(path: str | os.PathLike[str]) -> pd.DataFrame:
    """A Parquet file of any kind, in this thread alone. Raises `OSError` or `pyarrow.ArrowException`.

    Arrow's own readers start threads, more than a job was given, and a process that ends while one of them starts is aborted.
    """
    content = pa.BufferReader(Path(path).read_bytes())
    return pq.ParquetFile(content).read(use_threads=False).to_pandas(use_threads=False)


def read_table(path: str | os.PathLike[str], table: str) -> pd.DataFrame:
    """Read and check a table; raises `InputError` in one line when it is missing, damaged or of another kind."""
    require_intact(Path(path))
    try:
        frame = read_parquet(path)
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; expected a {table} table") from None
    except (pa.ArrowException, OSError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f"{path}: not a readable Parquet file ({reason}); delete it and run again") from None
    check_table(frame, table, str(path))
    return frame


def _refusal(error: BaseException | None) -> str | None:
    """Why the file system refused, if that is behind `error`; None if it is not.

    Safetensors says it in its own kind of error, and matplotlib, when it tidies up after one, fails with another.
    """
    while error is not None:
        if isinstance(error, OSError):
            return error.strerror or str(error)
        if told := re.search(r"\(os error (\d+)\)", str(error)):
            return os.strerror(int(told[1]))
        error = error.__context__
    return None


class atomic_path:
    """Context manager: a temporary path beside `path` that replaces it only if the block succeeds.

    Raises `InputError` in one line when the file system refuses (full, read-only, no permission).
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)

    def __enter__(self) -> Path:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            handle, name = tempfile.mkstemp(dir=self.path.parent, prefix=f".{self.path.name}.")
        except OSError as error:
            raise InputError(f"{self.path}: cannot be written ({error.strerror})") from None
        os.close(handle)
        self.temporary = Path(name)
        return self.temporary

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if error is not None:
            self.temporary.unlink(missing_ok=True)
            if reason := _refusal(error):
                raise InputError(f"{self.path}: cannot be written ({reason})") from None
            return
        try:
            # files go by the umask like any other; data reaches the disk before the name does
            umask = os.umask(0)
            os.umask(umask)
            os.chmod(self.temporary, 0o666 & ~umask)
            sync(self.temporary)
            write_digest(self.path, self.temporary)
            os.replace(self.temporary, self.path)
            sync_folder(self.path.parent)
        except OSError as problem:
            self.temporary.unlink(missing_ok=True)
            raise InputError(f"{self.path}: cannot be written ({problem.strerror})") from None
