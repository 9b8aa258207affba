"""Compressed and averaged weights along a second training: is the average as good as the trained model at every step?"""

import os
from collections.abc import Mapping

import pandas as pd
from jaxtyping import Float
from torch import Tensor

from mesaopt.analyses.snapshots import read_snapshots
from mesaopt.data.test_sets import fixed_test_batches
from mesaopt.models.predictors import loss_by_position
from mesaopt.models.products import ProductModel, average
from mesaopt.models.weights import load_weights
from mesaopt.process.device import choose_device
from mesaopt.spec.run import read_run
from mesaopt.store.tables import write_table

File = str | os.PathLike[str]


def batch_losses(model: ProductModel, batches: Float[Tensor, "batches batch time_plus_1 n_obs"]) -> list[float]:
    """Test loss as in training, the mean over t, sequences and test batches; and after it that of each batch alone."""
    losses = [loss_by_position(model, batch).mean().item() for batch in batches]
    return [sum(losses) / len(losses), *losses]


def _moved(weights: Mapping[str, Tensor], device: str) -> dict[str, Tensor]:
    return {name: values.to(device) for name, values in weights.items()}


def interpolate_run(extracted: File, snapshots: File, out: File, device: str = "cpu") -> None:
    """Write table `interpolation`: test loss at every snapshot of the second training for `trained` products, `compressed` ones
    of the first training (the same at every step), and their `interpolation` half way; over all test batches and on each.

    Each file has its spec.json beside it. Raises `InputError` when files are missing or the models differ in shape.
    """
    (first, _), (second, seed) = read_run(extracted), read_run(snapshots)
    where = choose_device(device)
    compressed = ProductModel.from_weights(_moved(load_weights(extracted), where), first.model, first.task.n_obs).compress()
    batches = fixed_test_batches(second, [seed], where)[:, 0]
    of_compressed = batch_losses(compressed, batches)
    rows: list[tuple[str, int, int, float]] = []
    for step, weights in read_snapshots(snapshots).items():
        trained = ProductModel.from_weights(_moved(weights, where), second.model, second.task.n_obs)
        losses = {
            "trained": batch_losses(trained, batches),
            "interpolation": batch_losses(average(compressed, trained), batches),
            "compressed": of_compressed,
        }
        rows += [(name, batch, step, loss) for name, values in losses.items() for batch, loss in enumerate(values)]
    write_table(pd.DataFrame(rows, columns=["predictor", "batch", "step", "test_loss"]), "interpolation", out)
