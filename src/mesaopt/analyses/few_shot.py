"""Few-shot regression by a trained model, with and without tuned tokens, and by least squares (paper, section on few-shot
regression).

Least squares is shown twice: on the pairs that a model trained on next elements would make of the prompt, {(x_i, y_i)} and
{(y_i, x_{i+1})}, and on the pairs (x_i, y_i) alone. After a change of task all of them still count.
"""

import functools
from collections.abc import Callable, Iterator, Mapping

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from mesaopt.algorithms.least_squares import LeastSquares, exact_preconditioned_inputs
from mesaopt.algorithms.pairs import regress
from mesaopt.data.prompts import Form, Place, Prompt, one_task, two_tasks
from mesaopt.data.tokens import delayed
from mesaopt.models.transformer import Transformer
from mesaopt.spec.analysis import Labels
from mesaopt.training.prompts import Tokens, label_errors

#: what is in the table of a model: as it is, with separators (EOS), and with a prefix as well
MODELS = ("model", "model_eos", "model_eos_prefix")
#: sequences at a time
_CHUNK = 16

Tasks = Float[Tensor, "tasks batch elements n"]
Errors = Callable[[Prompt, Tasks], Float[Tensor, "batch scored"]]


def few_shot_table(
    model: Transformer,
    sequences: Float[Tensor, "batch elements n"],
    tokens: Tokens,
    settings: Labels,
    searched: float | None = None,
) -> pd.DataFrame:
    """Table `few_shot`: columns predictor, tasks (one or two), task, k, pair and mse; least squares also with the regulariser
    `searched`, if one is given.

    `k` pairs of the same task were seen before; `pair` is where the error is drawn: where the task changes, after the pairs of
    the first task that all forms of prompts have.
    """
    length = sequences.shape[1] - 1
    own = {name: one_task(form, length) for name, form in _forms(tokens).items()}
    changed = {
        name: two_tasks(form, length, settings.first_pairs, settings.first_tokens) for name, form in _forms(tokens).items()
    }
    regularisers = {"": settings.inverse_lam} | ({} if searched is None else {"_searched": searched})
    frames = [
        *_rows(model, sequences[None], own, tokens, regularisers, "one"),
        *_rows(model, _two(sequences), changed, tokens, regularisers, "two"),
    ]
    return pd.concat(frames, ignore_index=True)


def searched_inverse_lam(sequences: Float[Tensor, "batch elements n"], settings: Labels) -> float:
    """1/lambda of least error of labels, mean over all pairs of plain prompts, of least squares on overlapping pairs."""
    prompt = Prompt(one_task(Form(), sequences.shape[1] - 1))
    grid = np.geomspace(settings.search_low, settings.search_high, settings.search_values).tolist()
    errors = [_mean(functools.partial(overlapping, inverse_lam=value), prompt, sequences[None]).mean().item() for value in grid]
    return float(grid[int(np.argmin(errors))])


def early_ascent(table: pd.DataFrame) -> pd.DataFrame:
    """Table `early_ascent` of every predictor on one task: how far pairs first make it worse than predicting zero.

    `height` is the largest error after k = 1, 2, ... pairs over that of zero on the same pairs, `place` the k where that is, and
    `width` the number of k with an error above that of zero.
    """
    alone = table[table["tasks"] == "one"]
    errors = alone.pivot(index="k", columns="predictor", values="mse").loc[1:]
    ratios = errors.drop(columns="zero").div(errors["zero"], axis=0)
    found = pd.DataFrame({"height": ratios.max(), "place": ratios.idxmax(), "width": (ratios > 1).sum()})
    return found.rename_axis("predictor").reset_index()


def _two(sequences: Float[Tensor, "batch elements n"]) -> Float[Tensor, "two half elements n"]:
    """Every two sequences as the tasks of one."""
    return torch.stack((sequences[0 : 2 * (len(sequences) // 2) : 2], sequences[1::2]))


def _forms(tokens: Tokens) -> dict[str, Form]:
    """By predictor; without tuned prefix there is no third."""
    separators, prefix = (len(tokens.get(kind, ())) for kind in ("separator", "prefix"))
    found = dict(zip(MODELS, (Form(), Form(separators=separators), Form(prefix, separators)), strict=True))
    return found if prefix else {name: found[name] for name in MODELS[:2]}


def _rows(
    model: Transformer,
    tasks: Tasks,
    prompts: Mapping[str, list[Place]],
    tokens: Tokens,
    regularisers: Mapping[str, float],
    called: str,
) -> Iterator[pd.DataFrame]:
    def by_model(prompt: Prompt, part: Tasks) -> Tensor:
        with torch.no_grad():
            return label_errors(model, prompt, part, tokens)

    plain = Prompt(prompts["model"])
    curves: dict[str, tuple[Prompt, Errors]] = {name: (Prompt(places), by_model) for name, places in prompts.items()}
    curves |= {f"lsq{name}": (plain, functools.partial(overlapping, inverse_lam=of)) for name, of in regularisers.items()}
    curves |= {
        "lsq_pairs": (plain, functools.partial(pairs_alone, inverse_lam=regularisers[""])),
        "zero": (plain, lambda prompt, part: prompt.labels(part).square().sum(-1) / 2),
    }
    common = min(sum(place.task == 0 for place in prompt.asked) for prompt, _ in curves.values())
    drawn = common if called == "two" else None
    for name, (prompt, errors) in curves.items():
        yield _frame(prompt, _mean(errors, prompt, tasks), drawn).assign(predictor=name, tasks=called)


def _mean(errors: Errors, prompt: Prompt, tasks: Tasks) -> Float[Tensor, " scored"]:
    """Over sequences, in float64."""
    parts = [errors(prompt, part).double().sum(0) for part in tasks.split(_CHUNK, dim=1)]
    return (torch.stack(parts).sum(0) / tasks.shape[1]).cpu()


def _frame(prompt: Prompt, means: Float[Tensor, " scored"], drawn: int | None) -> pd.DataFrame:
    asked = prompt.asked
    frame = pd.DataFrame({"task": [place.task + 1 for place in asked], "k": [place.number for place in asked]})
    frame = frame.assign(pair=frame["k"] + (drawn or 0) * (frame["task"] - 1), mse=means.numpy())
    return frame if drawn is None else frame[(frame["task"] == 2) | (frame["k"] < drawn)]


def overlapping(prompt: Prompt, tasks: Tasks, inverse_lam: float) -> Float[Tensor, "batch scored"]:
    """Errors of least squares on the pairs {(x_i, y_i)} and {(y_i, x_{i+1})} that are complete before x: of the elements of a
    plain prompt all neighbours but the newest.
    """
    predictions = LeastSquares(inverse_lam, lag=1)(prompt.inputs(tasks, {}))
    return (predictions[:, prompt.scored] - prompt.labels(tasks)).square().sum(-1) / 2


def pairs_alone(prompt: Prompt, tasks: Tasks, inverse_lam: float) -> Float[Tensor, "batch scored"]:
    """Errors of least squares on the pairs (x_i, y_i) before x."""
    x, y = prompt.questions(tasks).double(), prompt.labels(tasks).double()
    solved = exact_preconditioned_inputs(x, inverse_lam)
    return (regress(solved, x, 0, delayed(y, 1)) - y).square().sum(-1) / 2
