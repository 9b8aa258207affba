"""The stages that measure a trained language model: loss by position and measures, and the attention of its first layer."""

import os
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from mesaopt.analyses.language_attention import copy_table, first_layer_weights, map_table, mean_map
from mesaopt.data.windows import Tokens, repeated
from mesaopt.errors import InputError
from mesaopt.models.language import LanguageTransformer
from mesaopt.models.language_measures import SINGLE, Positions, loss_curve, perplexity, score
from mesaopt.models.weights import load_weights
from mesaopt.process.device import choose_device
from mesaopt.spec.language import LanguageMeasures, LanguageRun, read_language_run
from mesaopt.store.tables import write_table

File = str | os.PathLike[str]
#: sequences at a time
TOGETHER = 8
#: of what is measured, the same for all seeds and runs
SEED = 0


def read_model(weights: File, vocabulary: int, device: str) -> tuple[LanguageRun, LanguageTransformer]:
    """A trained model and its run; raises `InputError` naming the file when the weights are of another model."""
    run, _ = read_language_run(weights)
    model = LanguageTransformer(run.model, vocabulary, run.task.context_length)
    try:
        model.load(load_weights(weights))
    except InputError as error:
        raise InputError(f"{weights}: {error}") from None
    return run, model.to(choose_device(device))


def _text(weights: File, tokens: File) -> Tokens:
    run, _ = read_language_run(weights)
    return Tokens(Path(tokens), "validation", run.task)


def single_score(curve: np.ndarray) -> float:
    """Loss at position 500 less that at 50, from a loss by position; of a context shorter than 500 at positions scaled down.

    What is measured along a training scales the positions of every context shorter than 550 (models/language_measures.py).
    """
    early, late = SINGLE if len(curve) >= SINGLE[1] else Positions.of(len(curve)).single
    return float(curve[late - 1] - curve[early - 1])


def evaluate_language_stage(
    weights: File, tokens: File, loss: File, measures: File, settings: LanguageMeasures = LanguageMeasures(), device: str = "cpu"
) -> None:
    """Write tables `language_loss` (by position) and `language_measures`, on text that was held back."""
    text = _text(weights, tokens)
    run, model = read_model(weights, text.vocabulary_size, device)
    curve = loss_curve(model, text.windows(SEED, "evaluation", 0, settings.sequences), TOGETHER)
    random = repeated(text.vocabulary_size, run.task.context_length, settings.repeated, SEED)
    control = loss_curve(model, random, TOGETHER)
    middle = -(-(run.task.context_length + 1) // 2)
    found = {
        "loss": float(curve.mean()),
        "perplexity": perplexity(curve),
        "score": score(curve),
        "single_score": single_score(curve),
        # position t predicts token t + 1: from position `middle` on it is one that was there before
        "repeated_first": float(control[: middle - 1].mean()),
        "repeated_second": float(control[middle:].mean()),
    }
    write_table(pd.DataFrame({"t": range(1, len(curve) + 1), "loss": curve}), "language_loss", loss)
    write_table(pd.DataFrame({"measure": list(found), "value": list(found.values())}), "language_measures", measures)


def language_attention_stage(
    weights: File, tokens: File, out: File, copies: File, settings: LanguageMeasures = LanguageMeasures(), device: str = "cpu"
) -> None:
    """Write tables `language_attention` and `copy_heads` of the first layer. Raises `InputError` unless that is of softmax."""
    text = _text(weights, tokens)
    run, model = read_model(weights, text.vocabulary_size, device)
    if run.model.layers[0] != "softmax":
        raise InputError(f"attention maps are of models that begin with a layer of softmax attention, not {run.model.layers[0]}")
    windows = text.windows(SEED, "maps", 0, settings.maps)
    with torch.inference_mode():
        parts = list(first_layer_weights(model, windows, min(settings.map_length, text.length)))
    write_table(map_table(mean_map(parts)), "language_attention", out)
    write_table(copy_table(parts), "copy_heads", copies)
