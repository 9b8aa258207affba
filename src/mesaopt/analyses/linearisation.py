"""A trained model with linear layers in the place of softmax ones: what its loss becomes, and weights of both beside each other
(paper, section on linearisation).
"""

import math
import os
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace

import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from mesaopt.analyses.trained import Trained
from mesaopt.data.sequences import inputs_targets, training_batch
from mesaopt.data.tokens import tokenise
from mesaopt.errors import InputError
from mesaopt.models.predictors import loss_by_position, model_predictor
from mesaopt.models.products import Products, layer_products
from mesaopt.models.transformer import Transformer
from mesaopt.models.weights import load_weights, save_weights
from mesaopt.spec.analysis import Linearise
from mesaopt.training.distillation import LinearLayers, positions_of, recorded

File = str | os.PathLike[str]
_NAME = re.compile(r"(\w+)/layers\.(\d+)\.(\w+)")
#: sequences at a time
_CHUNK = 16


def write_linear_layers(layers: LinearLayers, path: File) -> None:
    """Write the weights under start/layers.N.NAME."""
    named = {f"{start}/layers.{n}.{name}": tensor for (start, n), of in layers.items() for name, tensor in of.items()}
    save_weights(named, path)


def read_linear_layers(path: File) -> LinearLayers:
    """Weights by start and layer; raises `InputError` when the file is missing, damaged or another."""
    found: LinearLayers = {}
    for name, tensor in load_weights(path).items():
        match = _NAME.fullmatch(name)
        if match is None:
            raise InputError(f"{path}: not the weights of linear layers: {name}")
        found.setdefault((match[1], int(match[2])), {})[match[3]] = tensor
    return found


def starts(layers: LinearLayers) -> list[str]:
    """Where distillations began, each once."""
    return list(dict.fromkeys(start for start, _ in sorted(layers)))


def swapped(trained: Trained, layers: LinearLayers, start: str, numbers: Collection[int]) -> Transformer:
    """The trained model with linear layers in the place of those `numbers` (from 0). Raises `InputError` when one is missing."""
    model = trained.run.model
    kinds = tuple("linear" if i in numbers else kind for i, kind in enumerate(model.layers))
    weights = trained.model.seed_weights(0)
    for number in numbers:
        if (start, number) not in layers:
            raise InputError(f"{trained.run.name}: no linear layer of start {start} for layer {number + 1}")
        weights |= {f"layers.{number}.{name}": tensor for name, tensor in layers[start, number].items()}
    linear = Transformer(replace(model, layers=kinds), trained.run.task.n_obs)
    linear.load_seeds([weights])
    return linear.to(trained.device)


def linearisation_table(trained: Trained, layers: LinearLayers, settings: Linearise) -> pd.DataFrame:
    """Table `linearisation`, all losses on the same sequences; without rows for losses beyond every number, which nothing keeps
    several layers at once from: linear attention is cubic in what it reads.
    """
    batches = [
        training_batch(trained.run.task, [trained.seed], settings.test_batch, "linearise_test", i, trained.device.type)[0]
        for i in range(settings.test_batches)
    ]
    observations, count = torch.cat(batches), len(trained.run.model.layers)
    original = _loss(trained.model, observations)
    rows = []
    for start in starts(layers):
        errors = output_errors(trained, layers, start, observations)
        errors = [sum(errors) / count, *errors]
        for layer, numbers in enumerate([range(count), *([number] for number in range(count))]):
            loss = _loss(swapped(trained, layers, start, numbers), observations)
            if math.isfinite(loss):
                rows.append((start, layer, loss, loss / original, errors[layer]))
    return pd.DataFrame(rows, columns=["start", "layer", "loss", "normalised", "error"])


def _loss(model: Transformer, observations: Float[Tensor, "batch time_plus_1 n_obs"]) -> float:
    return loss_by_position(model_predictor(model), observations, _CHUNK).mean().item()


@torch.no_grad()
def output_errors(
    trained: Trained, layers: LinearLayers, start: str, observations: Float[Tensor, "batch time_plus_1 n_obs"]
) -> list[float]:
    """Of every linear layer, on the inputs that the softmax layer has in the trained model: mean square of what is wrong
    its attention output by the mean square of that output.
    """
    count = len(trained.run.model.layers)
    linear = swapped(trained, layers, start, range(count)).blocks()
    wrong, whole = torch.zeros(count, dtype=torch.float64), torch.zeros(count, dtype=torch.float64)
    for part in observations.split(_CHUNK):
        tokens = tokenise(inputs_targets(part)[0], trained.run.model.tokens)[None]
        for number, (inputs, output) in enumerate(recorded(trained.model, tokens)):
            positions = positions_of(trained.model, inputs) if number == 0 else None
            wrong[number] += (linear[number].attention(inputs, positions) - output).double().square().sum().cpu()
            whole[number] += output.double().square().sum().cpu()
    return (wrong / whole).tolist()


def products_by_start(trained: Trained, layers: LinearLayers) -> Iterator[tuple[str, list[Products]]]:
    """Products of the softmax layers ("trained"; QK over sqrt(d_head), as it stands in the softmax), of linear ones by start."""
    count, weights = len(trained.run.model.layers), trained.model.seed_weights(0)
    scale = math.sqrt(trained.run.model.d_head)
    yield "trained", [Products(of.QK / scale, of.OV) for of in layer_products(weights, count)]
    for start in starts(layers):
        yield start, layer_products(_of_start(layers, start), count)


def _of_start(layers: LinearLayers, start: str) -> Mapping[str, Tensor]:
    return {f"layers.{n}.{name}": tensor for (of, n), named in layers.items() if of == start for name, tensor in named.items()}
